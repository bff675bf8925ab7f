"""The experiment behind ik_llama.cpp's PR 295: pure files of some types by each search, evaluated in one engine."""

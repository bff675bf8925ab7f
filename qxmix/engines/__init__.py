"""The engines that run the models: llama.cpp and ik_llama.cpp from PyPI, each in a child process."""

"""What compiled kernels call besides the C library, for when numba is not there: LLVM's text of three functions.

``NRT_MemInfo_alloc_aligned``: an array's memory behind a header that numba's code counts references in; laid out as
``_meminfo_struct_type`` of ``numba.core.runtime.nrtdynmod``, which a test compares with ``MEMINFO``::

    0        8      16          24     32     40                 48 ...
    +--------+------+-----------+------+------+------------------+---- - - ----+
    | refct  | dtor | dtor_info | data | size | external (null)  | data, aligned
    +--------+------+-----------+------+------+------------------+---- - - ----+

``NRT_MemInfo_call_dtor``: frees it.  ``numba_attempt_nocopy_reshape``: strides of a new shape; numba lets only
contiguous arrays be reshaped, and kernels have no others.
"""

MEMINFO = "{i64, i8*, i8*, i8*, i64}"

PROVIDED = frozenset({"NRT_MemInfo_alloc_aligned", "NRT_MemInfo_call_dtor", "numba_attempt_nocopy_reshape"})

TEXT = """
declare ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %by = zext i32 %align to i64
  %room = add i64 %by, 48
  %total = add i64 %size, %room
  %info = call ptr @malloc(i64 %total)
  %none = icmp eq ptr %info, null
  br i1 %none, label %end, label %fill
fill:
  %start = ptrtoint ptr %info to i64
  %beyond = add i64 %start, %room
  %down = sub i64 0, %by
  %at = and i64 %beyond, %down
  %data = inttoptr i64 %at to ptr
  store i64 1, ptr %info
  %dtor = getelementptr i64, ptr %info, i64 1
  store ptr null, ptr %dtor
  %dtor_info = getelementptr i64, ptr %info, i64 2
  store ptr null, ptr %dtor_info
  %to_data = getelementptr i64, ptr %info, i64 3
  store ptr %data, ptr %to_data
  %to_size = getelementptr i64, ptr %info, i64 4
  store i64 %size, ptr %to_size
  %external = getelementptr i64, ptr %info, i64 5
  store ptr null, ptr %external
  br label %end
end:
  ret ptr %info
}

define void @NRT_MemInfo_call_dtor(ptr %info) {
  call void @free(ptr %info)
  ret void
}

define i32 @numba_attempt_nocopy_reshape(i64 %nd, ptr %dims, ptr %strides, i64 %new_nd, ptr %new_dims,
                                         ptr %new_strides, i64 %itemsize, i32 %fortran) {
entry:
  br label %old
old:
  %i = phi i64 [0, %entry], [%i_next, %old_axis]
  %n_old = phi i64 [1, %entry], [%n_old_next, %old_axis]
  %more_old = icmp slt i64 %i, %nd
  br i1 %more_old, label %old_axis, label %new
old_axis:
  %old_at = getelementptr i64, ptr %dims, i64 %i
  %old_dim = load i64, ptr %old_at
  %n_old_next = mul i64 %n_old, %old_dim
  %i_next = add i64 %i, 1
  br label %old
new:
  %j = phi i64 [%new_nd, %old], [%j_next, %new_axis]
  %n_new = phi i64 [1, %old], [%n_new_next, %new_axis]
  %more_new = icmp sgt i64 %j, 0
  br i1 %more_new, label %new_axis, label %done
new_axis:
  %j_next = sub i64 %j, 1
  %stride = mul i64 %n_new, %itemsize
  %stride_at = getelementptr i64, ptr %new_strides, i64 %j_next
  store i64 %stride, ptr %stride_at
  %new_at = getelementptr i64, ptr %new_dims, i64 %j_next
  %new_dim = load i64, ptr %new_at
  %n_new_next = mul i64 %n_new, %new_dim
  br label %new
done:
  %same = icmp eq i64 %n_new, %n_old
  %result = zext i1 %same to i32
  ret i32 %result
}

define void @never() {
  call void @llvm.trap()
  unreachable
}
declare void @llvm.trap()
"""

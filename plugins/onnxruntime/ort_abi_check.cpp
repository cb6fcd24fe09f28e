// Compares `ort_abi.h` with ONNX Runtime's own header. Compiled where ONNXRUNTIME_INCLUDE_DIR is set; no code results.

#include <onnxruntime_c_api.h>

#include "onnxruntime/ort_abi.h"

namespace bnn::ort {

#define BNN_ORT_CHECK(name, slot, result, parameters) \
  static_assert(offsetof(OrtApi, name) == (slot) * sizeof(void*), "the position of " #name);
BNN_ORT_FUNCTIONS(BNN_ORT_CHECK)
#undef BNN_ORT_CHECK

#define BNN_ORT_SAME_PLACE(name) static_assert(offsetof(OrtCustomOp, name) == offsetof(CustomOp, name), #name)
BNN_ORT_SAME_PLACE(CreateKernel);
BNN_ORT_SAME_PLACE(KernelCompute);
BNN_ORT_SAME_PLACE(KernelDestroy);
BNN_ORT_SAME_PLACE(GetInputMemoryType);
BNN_ORT_SAME_PLACE(GetVariadicOutputHomogeneity);
BNN_ORT_SAME_PLACE(CreateKernelV2);
BNN_ORT_SAME_PLACE(KernelComputeV2);
BNN_ORT_SAME_PLACE(GetEndVersion);
#if ORT_API_VERSION >= 18
BNN_ORT_SAME_PLACE(GetMayInplace);
BNN_ORT_SAME_PLACE(ReleaseAliasMap);
#endif

static_assert(int{kFail} == ORT_FAIL && int{kInvalidArgument} == ORT_INVALID_ARGUMENT, "error codes");
static_assert(int{kFloat} == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT &&
                  int{kInt32} == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 &&
                  int{kFloat16} == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
              "element types");
static_assert(int{kArena} == OrtArenaAllocator && int{kDefaultMemory} == OrtMemTypeDefault, "memory");

}  // namespace bnn::ort

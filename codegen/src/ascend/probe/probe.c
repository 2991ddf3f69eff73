/* Compiled, never run: says whether facts that plans rely on hold against headers, ours or the vendor's (see run.sh).
 * Read as C and as C++; the vendor's HCCL header and types of aclnn are C++ alone, and so is what looks at them. */
#include "acl/acl.h"
#ifdef __cplusplus
#define IS(a, b) static_assert((long)(a) == (long)(b), #a)
#else
#define IS(a, b) _Static_assert((long)(a) == (long)(b), #a)
#endif

/* data types and formats */
IS(ACL_DT_UNDEFINED, -1); IS(ACL_FLOAT, 0);   IS(ACL_FLOAT16, 1); IS(ACL_INT8, 2);
IS(ACL_INT32, 3);         IS(ACL_UINT8, 4);   IS(ACL_INT16, 6);   IS(ACL_UINT16, 7);
IS(ACL_UINT32, 8);        IS(ACL_INT64, 9);   IS(ACL_UINT64, 10); IS(ACL_DOUBLE, 11);
IS(ACL_BOOL, 12);         IS(ACL_BF16, 27);   IS(ACL_INT4, 29);
IS(ACL_FORMAT_UNDEFINED, -1); IS(ACL_FORMAT_NCHW, 0); IS(ACL_FORMAT_ND, 2);
IS(ACL_FORMAT_FRACTAL_NZ, 29);
/* runtime enums */
IS(ACL_MEMCPY_HOST_TO_HOST, 0);   IS(ACL_MEMCPY_HOST_TO_DEVICE, 1);
IS(ACL_MEMCPY_DEVICE_TO_HOST, 2); IS(ACL_MEMCPY_DEVICE_TO_DEVICE, 3);
IS(ACL_MEM_MALLOC_HUGE_FIRST, 0); IS(ACL_MEM_MALLOC_HUGE_ONLY, 1);
IS(ACL_MEM_MALLOC_NORMAL_ONLY, 2); IS(ACL_HBM_MEM, 1);
IS(ACL_EVENT_SYNC, 1); IS(ACL_EVENT_TIME_LINE, 8);
IS(ACL_STREAM_FAST_LAUNCH, 1); IS(ACL_STREAM_FAST_SYNC, 2);
IS(ACL_EVENT_RECORDED_STATUS_NOT_READY, 0); IS(ACL_EVENT_RECORDED_STATUS_COMPLETE, 1);
IS(ACL_OPT_DETERMINISTIC, 0); IS(ACL_RT_OVERFLOW_MODE_SATURATION, 0);
IS(ACL_RT_OVERFLOW_MODE_INFNAN, 1);
IS(sizeof(aclDataType), 4); IS(sizeof(aclFormat), 4); IS(sizeof(aclError), 4);

/* each line stands for one call's type: a wrong one does not compile */
aclError (*const p01)(const char *) = aclInit;
aclError (*const p02)(void) = aclFinalize;
aclError (*const p03)(int32_t) = aclrtSetDevice;
aclError (*const p04)(int32_t) = aclrtResetDevice;
aclError (*const p05)(uint32_t *) = aclrtGetDeviceCount;
aclError (*const p06)(aclrtContext *, int32_t) = aclrtCreateContext;
aclError (*const p07)(aclrtContext) = aclrtSetCurrentContext;
aclError (*const p08)(aclrtStream *) = aclrtCreateStream;
aclError (*const p09)(aclrtStream *, uint32_t, uint32_t) = aclrtCreateStreamWithConfig;
aclError (*const p10)(aclrtStream) = aclrtDestroyStream;
aclError (*const p11)(aclrtStream) = aclrtSynchronizeStream;
aclError (*const p12)(aclrtStream, int32_t) = aclrtSynchronizeStreamWithTimeout;
aclError (*const p13)(aclrtEvent *, uint32_t) = aclrtCreateEventExWithFlag;
aclError (*const p14)(aclrtEvent, aclrtStream) = aclrtRecordEvent;
aclError (*const p15)(aclrtStream, aclrtEvent) = aclrtStreamWaitEvent;
aclError (*const p16)(aclrtEvent, aclrtEventRecordedStatus *) = aclrtQueryEventStatus;
aclError (*const p17)(float *, aclrtEvent, aclrtEvent) = aclrtEventElapsedTime;
aclError (*const p18)(void **, size_t, aclrtMemMallocPolicy) = aclrtMalloc;
aclError (*const p19)(void *) = aclrtFree;
aclError (*const p20)(void **, size_t) = aclrtMallocHost;
aclError (*const p21)(void *) = aclrtFreeHost;
aclError (*const p22)(void *, size_t, const void *, size_t, aclrtMemcpyKind) = aclrtMemcpy;
aclError (*const p23)(void *, size_t, const void *, size_t, aclrtMemcpyKind, aclrtStream) = aclrtMemcpyAsync;
aclError (*const p24)(void *, size_t, int32_t, size_t) = aclrtMemset;
aclError (*const p25)(void *, size_t, int32_t, size_t, aclrtStream) = aclrtMemsetAsync;
aclError (*const p26)(aclrtMemAttr, size_t *, size_t *) = aclrtGetMemInfo;
aclError (*const p27)(aclrtFloatOverflowMode) = aclrtSetDeviceSatMode;
aclError (*const p28)(void *, size_t, aclrtStream) = aclrtGetOverflowStatus;
aclError (*const p29)(aclrtStream) = aclrtResetOverflowStatus;
aclError (*const p30)(aclSysParamOpt, int64_t) = aclrtCtxSetSysParamOpt;
const char *(*const p31)(void) = aclrtGetSocName;
const char *(*const p32)(void) = aclGetRecentErrMsg;

#ifdef __cplusplus
#include <type_traits>
/* Where the real declarations cannot be had, torch-npu's own types of them can. */
#if __has_include("aclnn_base_typedefs.h")
#include "aclnn_base_typedefs.h"
#define TYPE(name) _##name
#else
#include "aclnn/acl_meta.h"
#define TYPE(name) decltype(&name)
#endif
template <class A, class B> constexpr bool same = std::is_same<A, B>::value;
static_assert(same<TYPE(aclCreateTensor), aclTensor *(*)(const int64_t *, uint64_t, aclDataType, const int64_t *,
              int64_t, aclFormat, const int64_t *, uint64_t, void *)>, "aclCreateTensor");
static_assert(same<TYPE(aclCreateScalar), aclScalar *(*)(void *, aclDataType)>, "aclCreateScalar");
static_assert(same<TYPE(aclCreateIntArray), aclIntArray *(*)(const int64_t *, uint64_t)>, "aclCreateIntArray");
static_assert(same<TYPE(aclCreateFloatArray), aclFloatArray *(*)(const float *, uint64_t)>, "aclCreateFloatArray");
static_assert(same<TYPE(aclCreateBoolArray), aclBoolArray *(*)(const bool *, uint64_t)>, "aclCreateBoolArray");
static_assert(same<TYPE(aclCreateTensorList), aclTensorList *(*)(const aclTensor *const *, uint64_t)>, "aclCreateTensorList");
static_assert(same<TYPE(aclDestroyTensor), int (*)(const aclTensor *)>, "aclDestroyTensor");
static_assert(same<TYPE(aclDestroyScalar), int (*)(const aclScalar *)>, "aclDestroyScalar");
static_assert(same<TYPE(aclDestroyIntArray), int (*)(const aclIntArray *)>, "aclDestroyIntArray");
static_assert(same<TYPE(aclDestroyTensorList), int (*)(const aclTensorList *)>, "aclDestroyTensorList");
#if __has_include("hccl/hccl.h")
#include "hccl/hccl.h"
IS(sizeof(HcclRootInfo), 4108);
IS(HCCL_SUCCESS, 0); IS(HCCL_E_PARA, 1); IS(HCCL_E_NOT_SUPPORT, 5); IS(HCCL_E_TIMEOUT, 9);
IS(HCCL_REDUCE_SUM, 0); IS(HCCL_REDUCE_PROD, 1); IS(HCCL_REDUCE_MAX, 2); IS(HCCL_REDUCE_MIN, 3);
IS(HCCL_DATA_TYPE_INT8, 0); IS(HCCL_DATA_TYPE_INT32, 2); IS(HCCL_DATA_TYPE_FP16, 3);
IS(HCCL_DATA_TYPE_FP32, 4); IS(HCCL_DATA_TYPE_INT64, 5); IS(HCCL_DATA_TYPE_UINT8, 7);
IS(HCCL_DATA_TYPE_FP64, 10); IS(HCCL_DATA_TYPE_BFP16, 11);
HcclResult (*const h01)(HcclRootInfo *) = HcclGetRootInfo;
HcclResult (*const h02)(uint32_t, const HcclRootInfo *, uint32_t, HcclComm *) = HcclCommInitRootInfo;
HcclResult (*const h03)(const char *, uint32_t, HcclComm *) = HcclCommInitClusterInfo;
HcclResult (*const h04)(void *, void *, uint64_t, HcclDataType, HcclReduceOp, HcclComm, aclrtStream) = HcclAllReduce;
HcclResult (*const h05)(void *, void *, uint64_t, HcclDataType, HcclComm, aclrtStream) = HcclAllGather;
HcclResult (*const h06)(void *, void *, uint64_t, HcclDataType, HcclReduceOp, HcclComm, aclrtStream) = HcclReduceScatter;
HcclResult (*const h07)(void *, uint64_t, HcclDataType, uint32_t, HcclComm, aclrtStream) = HcclBroadcast;
HcclResult (*const h08)(void *, uint64_t, HcclDataType, uint32_t, HcclComm, aclrtStream) = HcclSend;
HcclResult (*const h09)(void *, uint64_t, HcclDataType, uint32_t, HcclComm, aclrtStream) = HcclRecv;
HcclResult (*const h10)(HcclComm) = HcclCommDestroy;
HcclResult (*const h11)(HcclComm, uint32_t *) = HcclGetRankSize;
HcclResult (*const h12)(HcclComm, uint32_t *) = HcclGetRankId;
HcclResult (*const h13)(HcclComm, aclrtStream) = HcclBarrier;
HcclResult (*const h14)(HcclComm, HcclResult *) = HcclGetCommAsyncError;
HcclResult (*const h15)(HcclComm, char *) = HcclGetCommName;
#endif
#endif

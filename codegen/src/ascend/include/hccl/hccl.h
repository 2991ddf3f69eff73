/* HCCL, as much of it as emitted plans call: our own words for published facts, for compiling where CANN is not installed.
 * A machine with CANN has its own `hccl/hccl.h`. `probe/` compares the two where the real one can be had. */
#ifndef BLOOMERY_HCCL_H
#define BLOOMERY_HCCL_H

#include "acl/acl.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void *HcclComm;

typedef enum {
    HCCL_SUCCESS = 0,
    HCCL_E_PARA = 1,
    HCCL_E_PTR = 2,
    HCCL_E_MEMORY = 3,
    HCCL_E_INTERNAL = 4,
    HCCL_E_NOT_SUPPORT = 5,
    HCCL_E_NOT_FOUND = 6,
    HCCL_E_UNAVAIL = 7,
    HCCL_E_SYSCALL = 8,
    HCCL_E_TIMEOUT = 9
} HcclResult;

typedef enum { HCCL_REDUCE_SUM = 0, HCCL_REDUCE_PROD = 1, HCCL_REDUCE_MAX = 2, HCCL_REDUCE_MIN = 3 } HcclReduceOp;

typedef enum {
    HCCL_DATA_TYPE_INT8 = 0,
    HCCL_DATA_TYPE_INT16 = 1,
    HCCL_DATA_TYPE_INT32 = 2,
    HCCL_DATA_TYPE_FP16 = 3,
    HCCL_DATA_TYPE_FP32 = 4,
    HCCL_DATA_TYPE_INT64 = 5,
    HCCL_DATA_TYPE_UINT64 = 6,
    HCCL_DATA_TYPE_UINT8 = 7,
    HCCL_DATA_TYPE_UINT16 = 8,
    HCCL_DATA_TYPE_UINT32 = 9,
    HCCL_DATA_TYPE_FP64 = 10,
    HCCL_DATA_TYPE_BFP16 = 11
} HcclDataType;

typedef struct {
    char internal[4108];
} HcclRootInfo;

/* Communicators: one rank makes the root info, all of the group begin together. */
HcclResult HcclGetRootInfo(HcclRootInfo *root);
HcclResult HcclCommInitRootInfo(uint32_t ranks, const HcclRootInfo *root, uint32_t rank, HcclComm *comm);
HcclResult HcclCommInitClusterInfo(const char *rankTable, uint32_t rank, HcclComm *comm);
HcclResult HcclCommDestroy(HcclComm comm);
HcclResult HcclGetRankSize(HcclComm comm, uint32_t *ranks);
HcclResult HcclGetRankId(HcclComm comm, uint32_t *rank);
HcclResult HcclGetCommName(HcclComm comm, char *name); /* 128 bytes */
HcclResult HcclGetCommAsyncError(HcclComm comm, HcclResult *result);
const char *HcclGetErrorString(HcclResult result);

/* Exchanges, enqueued: counts are elements. */
HcclResult HcclAllReduce(void *from, void *to, uint64_t count, HcclDataType type, HcclReduceOp op, HcclComm comm,
                         aclrtStream stream);
HcclResult HcclAllGather(void *from, void *to, uint64_t fromCount, HcclDataType type, HcclComm comm, aclrtStream stream);
HcclResult HcclReduceScatter(void *from, void *to, uint64_t toCount, HcclDataType type, HcclReduceOp op, HcclComm comm,
                             aclrtStream stream);
HcclResult HcclBroadcast(void *memory, uint64_t count, HcclDataType type, uint32_t root, HcclComm comm, aclrtStream stream);
HcclResult HcclSend(void *memory, uint64_t count, HcclDataType type, uint32_t to, HcclComm comm, aclrtStream stream);
HcclResult HcclRecv(void *memory, uint64_t count, HcclDataType type, uint32_t from, HcclComm comm, aclrtStream stream);
HcclResult HcclBarrier(HcclComm comm, aclrtStream stream);

#ifdef __cplusplus
}
#endif
#endif

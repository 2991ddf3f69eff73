// Stand-ins for the Ascend libraries that write down what they are asked, for a test of emitted plans. Memory is real, so that a
// sanitizer sees what is written and what is not given back; nothing is computed.

#include "aclnn/acl_meta.h"
#include "hccl/hccl.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

struct aclTensor {};
struct aclTensorList {
    std::vector<const aclTensor *> tensors;
};
struct aclScalar {};
struct aclIntArray {};
struct aclOpExecutor {};

static std::vector<std::pair<char *, size_t>> pieces;  // of device memory, in order
static std::map<const void *, const char *> names;     // of streams

// `0+128`: bytes from the beginning of a piece of device memory; `host` elsewhere.
static const char *place(const void *memory) {
    static char text[4][32];
    static int next = 0;
    char *out = text[next++ % 4];
    const char *at = static_cast<const char *>(memory);
    std::snprintf(out, 32, "host");
    for (size_t i = 0; i < pieces.size(); ++i)
        if (pieces[i].first <= at && at < pieces[i].first + pieces[i].second)
            std::snprintf(out, 32, "%zu+%td", i, at - pieces[i].first);
    return out;
}

static void numbers(const int64_t *values, uint64_t count) {
    std::printf(" [");
    for (uint64_t i = 0; i < count; ++i) std::printf("%s%lld", i == 0 ? "" : ", ", static_cast<long long>(values[i]));
    std::printf("]");
}

static const char *stream_name(const void *stream) { return names.at(stream); }

static char *taken(size_t bytes) { return static_cast<char *>(std::malloc(bytes)); }

// Both phases of every aclnn call.
aclnnStatus planned(uint64_t *workspace, aclOpExecutor **executor);
aclnnStatus planned(uint64_t *workspace, aclOpExecutor **executor) {
    static uint64_t next = 1 << 20;
    *workspace = next += 64;  // always more than there is
    *executor = new aclOpExecutor;
    return 0;
}
aclnnStatus issued(const char *name, void *workspace, uint64_t bytes, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus issued(const char *name, void *workspace, uint64_t bytes, aclOpExecutor *executor, aclrtStream stream) {
    std::memset(workspace, 1, bytes);
    delete executor;
    std::printf("call %s %s\n", name, stream_name(stream));
    return 0;
}

extern "C" {
aclError aclInit(const char *) { return 0; }
aclError aclFinalize(void) { return 0; }
aclError aclrtSetDevice(int32_t) { return 0; }
aclError aclrtResetDevice(int32_t) { return 0; }
const char *aclrtGetSocName(void) { return "Ascend910A"; }
const char *aclGetRecentErrMsg(void) { return nullptr; }

aclError aclrtCreateStream(aclrtStream *stream) {
    *stream = taken(1);
    names[*stream] = names.empty() ? "compute" : "transfer";
    return 0;
}
aclError aclrtDestroyStream(aclrtStream stream) { return std::free(stream), 0; }
aclError aclrtSynchronizeStream(aclrtStream stream) { return std::printf("fence %s\n", stream_name(stream)), 0; }
aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t flags) {
    static char next = 0;
    char *made = taken(1);
    *made = next++;
    *event = made;
    return flags == ACL_EVENT_SYNC ? 0 : 100000;
}
aclError aclrtDestroyEvent(aclrtEvent event) { return std::free(event), 0; }
aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
    return std::printf("record %d %s\n", *static_cast<char *>(event), stream_name(stream)), 0;
}
aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
    return std::printf("wait %d %s\n", *static_cast<char *>(event), stream_name(stream)), 0;
}

aclError aclrtMalloc(void **memory, size_t bytes, aclrtMemMallocPolicy) {
    *memory = taken(bytes);
    pieces.push_back({static_cast<char *>(*memory), bytes});
    return 0;
}
aclError aclrtFree(void *memory) {
    for (auto &[begin, bytes] : pieces)
        if (begin == memory) bytes = 0;
    return std::free(memory), 0;
}
aclError aclrtMallocHost(void **memory, size_t bytes) { return *memory = taken(bytes), 0; }
aclError aclrtFreeHost(void *memory) { return std::free(memory), 0; }
aclError aclrtMemset(void *memory, size_t, int32_t value, size_t bytes) { return std::memset(memory, value, bytes), 0; }
aclError aclrtMemcpy(void *to, size_t, const void *from, size_t bytes, aclrtMemcpyKind) {
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; ++i) sum = sum * 31 + static_cast<const unsigned char *>(from)[i];
    std::printf("fill %s %zu %llx\n", place(to), bytes, static_cast<unsigned long long>(sum));
    return std::memcpy(to, from, bytes), 0;
}
aclError aclrtMemcpyAsync(void *to, size_t, const void *from, size_t bytes, aclrtMemcpyKind kind, aclrtStream stream) {
    std::memmove(to, from, bytes);
    std::printf("copy %d %s <- %s %zu %s\n", static_cast<int>(kind), place(to), place(from), bytes, stream_name(stream));
    return 0;
}

aclTensor *aclCreateTensor(const int64_t *dims, uint64_t count, aclDataType type, const int64_t *strides, int64_t offset,
                           aclFormat, const int64_t *storage, uint64_t storage_count, void *memory) {
    std::printf("tensor %d %s %lld", static_cast<int>(type), place(memory), static_cast<long long>(offset));
    numbers(dims, count);
    numbers(strides, count);
    numbers(storage, storage_count);
    std::printf("\n");
    return new aclTensor;
}
aclnnStatus aclDestroyTensor(const aclTensor *tensor) { return delete tensor, 0; }
aclTensorList *aclCreateTensorList(const aclTensor *const *tensors, uint64_t count) {
    return new aclTensorList{{tensors, tensors + count}};
}
aclnnStatus aclDestroyTensorList(const aclTensorList *list) {
    for (const aclTensor *tensor : list->tensors) delete tensor;
    return delete list, 0;
}
aclScalar *aclCreateScalar(void *value, aclDataType type) {
    const size_t bytes = type == ACL_INT64 ? 8 : type == ACL_FLOAT || type == ACL_INT32 ? 4 : type == ACL_FLOAT16 ? 2 : 1;
    uint64_t bits = 0;
    std::memcpy(&bits, value, bytes);
    std::printf("scalar %d %llx\n", static_cast<int>(type), static_cast<unsigned long long>(bits));
    return new aclScalar;
}
aclnnStatus aclDestroyScalar(const aclScalar *scalar) { return delete scalar, 0; }
aclIntArray *aclCreateIntArray(const int64_t *values, uint64_t count) {
    std::printf("ints");
    numbers(values, count);
    std::printf("\n");
    return new aclIntArray;
}
aclnnStatus aclDestroyIntArray(const aclIntArray *array) { return delete array, 0; }

HcclResult HcclGetRootInfo(HcclRootInfo *root) { return std::memset(root, 7, sizeof *root), HCCL_SUCCESS; }
HcclResult HcclCommInitRootInfo(uint32_t ranks, const HcclRootInfo *root, uint32_t rank, HcclComm *comm) {
    std::printf("join %u of %u\n", rank, ranks);
    *comm = taken(1);
    return root->internal[4107] == 7 ? HCCL_SUCCESS : HCCL_E_PARA;
}
HcclResult HcclGetCommName(HcclComm, char *name) { return std::strcpy(name, "name"), HCCL_SUCCESS; }
HcclResult HcclCommDestroy(HcclComm comm) { return std::free(comm), HCCL_SUCCESS; }
static HcclResult exchanged(const char *what, void *from, void *to, uint64_t count, int type, aclrtStream stream) {
    return std::printf("%s %s %s %llu %d %s\n", what, place(from), place(to), static_cast<unsigned long long>(count), type,
                       stream_name(stream)), HCCL_SUCCESS;
}
HcclResult HcclAllReduce(void *from, void *to, uint64_t count, HcclDataType type, HcclReduceOp, HcclComm, aclrtStream stream) {
    return exchanged("all_reduce", from, to, count, type, stream);
}
HcclResult HcclAllGather(void *from, void *to, uint64_t count, HcclDataType type, HcclComm, aclrtStream stream) {
    return exchanged("all_gather", from, to, count, type, stream);
}
HcclResult HcclReduceScatter(void *from, void *to, uint64_t count, HcclDataType type, HcclReduceOp, HcclComm, aclrtStream stream) {
    return exchanged("reduce_scatter", from, to, count, type, stream);
}
HcclResult HcclSend(void *memory, uint64_t count, HcclDataType type, uint32_t to, HcclComm, aclrtStream stream) {
    std::printf("to %u: ", to);
    return exchanged("send", memory, memory, count, type, stream);
}
HcclResult HcclRecv(void *memory, uint64_t count, HcclDataType type, uint32_t from, HcclComm, aclrtStream stream) {
    std::printf("from %u: ", from);
    return exchanged("receive", memory, memory, count, type, stream);
}
}

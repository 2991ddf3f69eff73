// The calls that each rank of a small model makes on 910a chips (Ascend910A), as bloomery planned them. Needs CANN 8.0 or later:
//   g++ -std=c++17 -O1 plan.cpp -I$ASCEND_TOOLKIT_HOME/include -L$ASCEND_TOOLKIT_HOME/lib64
//       -lascendcl -lnnopbase -lopapi -lhccl -lpthread -o plan
// This text was compiled against headers; no one has yet told of a run.

#include <acl/acl.h>
#include <aclnn/acl_meta.h>
#include <hccl/hccl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// The calls, as the table of bloomery has them. What is `const` is its own guess.
extern "C" {
aclnnStatus aclnnEmbeddingGetWorkspaceSize(const aclTensor *weight, const aclTensor *indices, aclTensor *out,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnEmbedding(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnAddGetWorkspaceSize(const aclTensor *self, const aclTensor *other, const aclScalar *alpha,
        aclTensor *out, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnAdd(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnInplaceAddGetWorkspaceSize(aclTensor *selfRef, const aclTensor *other, const aclScalar *alpha,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnInplaceAdd(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnInplaceMulsGetWorkspaceSize(aclTensor *selfRef, const aclScalar *other, uint64_t *workspaceSize,
        aclOpExecutor **executor);
aclnnStatus aclnnInplaceMuls(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnCastGetWorkspaceSize(const aclTensor *self, aclDataType dtype, aclTensor *out,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnCast(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnInplaceCopyGetWorkspaceSize(aclTensor *selfRef, const aclTensor *src, uint64_t *workspaceSize,
        aclOpExecutor **executor);
aclnnStatus aclnnInplaceCopy(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnCatGetWorkspaceSize(const aclTensorList *tensors, int64_t dim, aclTensor *out,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnCat(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnArangeGetWorkspaceSize(const aclScalar *start, const aclScalar *end, const aclScalar *step,
        aclTensor *out, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnArange(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnMmGetWorkspaceSize(const aclTensor *self, const aclTensor *mat2, aclTensor *out, int8_t cubeMathType,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnMm(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnBatchMatMulGetWorkspaceSize(const aclTensor *self, const aclTensor *mat2, aclTensor *out,
        int8_t cubeMathType, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnBatchMatMul(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnLayerNormGetWorkspaceSize(const aclTensor *input, const aclIntArray *normalizedShape,
        const aclTensor *weightOptional, const aclTensor *biasOptional, double eps, aclTensor *out,
        aclTensor *meanOutOptional, aclTensor *rstdOutOptional, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnLayerNorm(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnGeluGetWorkspaceSize(const aclTensor *self, aclTensor *out, uint64_t *workspaceSize,
        aclOpExecutor **executor);
aclnnStatus aclnnGelu(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnGeluBackwardV2GetWorkspaceSize(const aclTensor *gradOutput, const aclTensor *self,
        const char *approximate, aclTensor *gradInput, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnGeluBackwardV2(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnSoftmaxGetWorkspaceSize(const aclTensor *self, int64_t dim, aclTensor *out, uint64_t *workspaceSize,
        aclOpExecutor **executor);
aclnnStatus aclnnSoftmax(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnReduceSumGetWorkspaceSize(const aclTensor *self, const aclIntArray *dims, bool keepDims,
        aclDataType dtype, aclTensor *out, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnReduceSum(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
aclnnStatus aclnnMatmulAllReduceGetWorkspaceSize(const aclTensor *x1, const aclTensor *x2, const aclTensor *bias,
        const char *group, const char *reduceOp, int64_t commTurn, int64_t streamMode, aclTensor *output,
        uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnMatmulAllReduce(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);
}

constexpr size_t EVENTS = 2;
constexpr uint32_t RANKS = 4, RANKS_PER_STAGE = 2;
constexpr int KEEP_DTYPE = 0;
// Axes of the mesh.
enum { AXIS_pp, AXIS_mp };
// Communicators of a rank.
enum { COMM_mp, COMM_world };

// Rows of one sequence in a call: its first row, how many, the position of the first, its page of the cache.
struct Sequence {
    int64_t start, length, first, page;
};

// What differs from call to call.
struct Sizes {
    int64_t N = 0;
    std::vector<Sequence> sequences;
};

// ---- What is the same in every plan: memory, tensors, calls that are checked. ----

using Dims = std::vector<int64_t>;

enum Arena { WEIGHTS, CACHE, IO, VALUES, TEMPORARIES, WORKSPACE, ARENAS };

// A piece of an arena: `layers` times `bytes`, one each `pitch`.
struct Buffer {
    const char *name;
    Arena arena;
    int64_t offset, bytes, layers, pitch;
};

// One rank's device, with everything that outlives a call.
struct Device {
    uint32_t rank = 0;
    std::vector<int64_t> place;  // along each axis of the mesh
    void *arenas[ARENAS] = {};
    aclrtStream compute = nullptr, transfer = nullptr;
    std::vector<aclrtEvent> events;
    std::vector<HcclComm> comms;
    std::vector<std::array<char, 128>> groups;  // the names of `comms`
    std::map<const Buffer *, char *> host;      // pinned memory of inputs and outputs
    void *workspace = nullptr;                  // of calls, which run in order: one is enough
    uint64_t workspace_bytes = 0;

    char *at(const Buffer &buffer, int64_t base = 0) const {
        return static_cast<char *>(arenas[buffer.arena]) + buffer.offset + base;
    }
};

// Says which call failed, with its code and what the library has to say of it.
inline int failed(const char *call, int code, const char *file, int line) {
    const char *message = aclGetRecentErrMsg();
    std::fprintf(stderr, "%s:%d: %s: error %d\n%s\n", file, line, call, code, message != nullptr ? message : "");
    return code;
}

// A call that must succeed; otherwise the function returns its code.
#define TRY(call)                                                        \
    do {                                                                 \
        const int code_ = static_cast<int>(call);                        \
        if (code_ != 0) return failed(#call, code_, __FILE__, __LINE__); \
    } while (0)

// Makes the workspace so large. Memory is freed at once, even under running work: that is waited for.
inline int reserve(Device &d, uint64_t bytes) {
    if (bytes <= d.workspace_bytes) return 0;
    TRY(aclrtSynchronizeStream(d.compute));
    if (d.workspace != nullptr) TRY(aclrtFree(d.workspace));
    d.workspace = nullptr;
    d.workspace_bytes = 0;
    TRY(aclrtMalloc(&d.workspace, bytes, ACL_MEM_MALLOC_HUGE_FIRST));
    d.workspace_bytes = bytes;
    return 0;
}

// Both phases of an aclnn call: plan it, which says how much workspace it takes, then enqueue it.
#define CALL(name, ...)                                                                                       \
    do {                                                                                                      \
        uint64_t bytes_ = 0;                                                                                  \
        aclOpExecutor *executor_ = nullptr;                                                                   \
        TRY(name##GetWorkspaceSize(__VA_ARGS__, &bytes_, &executor_));                                        \
        if (const int code_ = reserve(d, bytes_)) return code_;                                               \
        TRY(name(bytes_ == 0 ? nullptr : d.workspace, bytes_, executor_, d.compute));                         \
    } while (0)

inline Dims row_major(const Dims &dims) {
    Dims strides(dims.size(), 1);
    for (size_t i = dims.size(); i > 1; --i) strides[i - 2] = strides[i - 1] * dims[i - 1];
    return strides;
}

// A view of a buffer: `base` bytes into it lies a storage, `offset` elements into that the view begins. The object lives until
// its call has been enqueued.
class Tensor {
  public:
    Tensor(const Device &d, const Buffer &buffer, int64_t base, aclDataType type, const Dims &dims)
        : Tensor(d, buffer, base, type, dims, row_major(dims), 0, dims) {}
    Tensor(const Device &d, const Buffer &buffer, int64_t base, aclDataType type, const Dims &dims, const Dims &strides,
           int64_t offset, const Dims &storage)
        : tensor(aclCreateTensor(dims.data(), dims.size(), type, strides.data(), offset, ACL_FORMAT_ND, storage.data(),
                                 storage.size(), d.at(buffer, base))) {}
    Tensor(const Tensor &) = delete;
    Tensor &operator=(const Tensor &) = delete;
    ~Tensor() {
        if (tensor != nullptr) aclDestroyTensor(tensor);
    }
    operator aclTensor *() const { return tensor; }
    aclTensor *release() { return std::exchange(tensor, nullptr); }

  private:
    aclTensor *tensor;
};

// Tensors in a list, which owns them.
class Tensors {
  public:
    explicit Tensors(const std::vector<const aclTensor *> &tensors) : list(aclCreateTensorList(tensors.data(), tensors.size())) {}
    Tensors(const Tensors &) = delete;
    Tensors &operator=(const Tensors &) = delete;
    ~Tensors() {
        if (list != nullptr) aclDestroyTensorList(list);
    }
    operator aclTensorList *() const { return list; }

  private:
    aclTensorList *list;
};

class Scalar {
  public:
    template <class T>
    Scalar(T value, aclDataType type) : scalar(aclCreateScalar(&value, type)) {}
    Scalar(const Scalar &) = delete;
    Scalar &operator=(const Scalar &) = delete;
    ~Scalar() {
        if (scalar != nullptr) aclDestroyScalar(scalar);
    }
    operator const aclScalar *() const { return scalar; }

  private:
    aclScalar *scalar;
};

class Ints {
  public:
    explicit Ints(const Dims &values) : array(aclCreateIntArray(values.data(), values.size())) {}
    Ints(const Ints &) = delete;
    Ints &operator=(const Ints &) = delete;
    ~Ints() {
        if (array != nullptr) aclDestroyIntArray(array);
    }
    operator const aclIntArray *() const { return array; }

  private:
    aclIntArray *array;
};

// ---- What buffers hold before anything runs. ----

// What ALiBi adds to scores: [heads, rows, reach + rows], `slope * distance`, and a number that hides what lies ahead.
struct Distances {
    std::vector<double> slopes;  // of all heads
    int axis;                    // of the mesh, that heads are shared over; -1: every rank has all
    int64_t heads, rows, reach;
    aclDataType type;
};

struct Held {
    enum Kind { PARAMETER, STATE, HOST, TABLE } kind;
    const Buffer *buffer;
    Distances distances;
};

inline Held parameter(const Buffer &buffer) { return {Held::PARAMETER, &buffer, {}}; }
inline Held state(const Buffer &buffer) { return {Held::STATE, &buffer, {}}; }
inline Held host(const Buffer &buffer) { return {Held::HOST, &buffer, {}}; }
inline Held table(const Buffer &buffer, const Distances &distances) { return {Held::TABLE, &buffer, distances}; }

// One range of rows of an entry: what runs it, and its largest sizes with sequences that have so many rows.
struct Entry {
    const char *name;
    int64_t least, most;
    int (*run)(Device &d, const Sizes &n);
    Sizes largest;
};

// What the ranks of some stages have and do.
struct Part {
    int64_t first_stage, last_stage, layers;
    std::vector<int64_t> arenas;  // bytes of each
    std::vector<Held> held;
    std::vector<Entry> entries;
};

struct Communicator {
    const char *name;
    std::vector<std::vector<uint32_t>> groups;
};

const std::vector<std::string> socs = {"Ascend910A"};
const Dims mesh = {2, 2};
const std::vector<Communicator> communicators = {
    {"mp", {{0, 1}, {2, 3}}},
    {"world", {{0, 1, 2, 3}}},
};

// ---- Stages 0..0, 2 layers each. ----
namespace stage_0 {

namespace memory {
constexpr Buffer ids{"ids", IO, 0, 128, 1, 192};
constexpr Buffer word_embeddings{"word_embeddings", WEIGHTS, 0, 16384, 1, 16448};
constexpr Buffer x{"x", VALUES, 0, 1024, 1, 1088};
constexpr Buffer y{"y", VALUES, 1088, 1024, 1, 1088};
constexpr Buffer owed{"owed", VALUES, 2176, 1024, 1, 1088};
constexpr Buffer h_up{"h.up", WEIGHTS, 16448, 4096, 2, 4160};
constexpr Buffer h_down{"h.down", WEIGHTS, 24768, 4096, 2, 4160};
constexpr Buffer wide{"wide", VALUES, 3264, 2048, 1, 2112};
constexpr Buffer q{"q", VALUES, 5376, 512, 1, 576};
constexpr Buffer new_{"new", VALUES, 5952, 512, 1, 576};
constexpr Buffer attended{"attended", VALUES, 6528, 512, 1, 576};
constexpr Buffer kv{"kv", CACHE, 0, 16384, 1, 16448};
constexpr Buffer slopes{"slopes", WEIGHTS, 33088, 8, 1, 64};
constexpr Buffer rows{"rows", IO, 192, 192, 1, 256};
constexpr Buffer t14{"t14", WEIGHTS, 33152, 10240, 1, 10304};
constexpr Buffer t15{"t15", TEMPORARIES, 0, 512, 1, 576};
constexpr Buffer t16{"t16", TEMPORARIES, 576, 8192, 1, 8256};
constexpr Buffer t17{"t17", TEMPORARIES, 8832, 8192, 1, 8256};
constexpr Buffer t18{"t18", TEMPORARIES, 17088, 4096, 1, 4160};
constexpr Buffer t19{"t19", TEMPORARIES, 21248, 1024, 1, 1088};
}  // namespace memory

// `body`, N 1..16
static int body_1_16(Device &d, const Sizes &n) {
    const int64_t N = n.N;
    {  // i64[N]
        const size_t bytes = static_cast<size_t>(8 * N);
        TRY(aclrtMemcpyAsync(d.at(memory::ids), bytes, d.host.at(&memory::ids), bytes, ACL_MEMCPY_HOST_TO_DEVICE,
            d.compute));
    }
    {  // gather: f16[256, 32], i64[N] -> f16[N, 32]
        const Tensor weight(d, memory::word_embeddings, 0, ACL_FLOAT16, {256, 32});
        const Tensor indices(d, memory::ids, 0, ACL_INT64, {N});
        const Tensor out(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnEmbedding, weight, indices, out);
    }
    for (int64_t layer = 0; layer < 2; ++layer) {
        {  // matmul: f16[N, 32], f16[32, 64] -> f16[N, 64]
            const Tensor self(d, memory::x, 0, ACL_FLOAT16, {N, 32});
            const Tensor mat2(d, memory::h_up, 4160 * layer, ACL_FLOAT16, {32, 64});
            const Tensor out(d, memory::wide, 0, ACL_FLOAT16, {N, 64});
            CALL(aclnnMm, self, mat2, out, KEEP_DTYPE);
        }
        {  // gelu: f16[N, 64] -> f16[N, 64]
            const Tensor self(d, memory::wide, 0, ACL_FLOAT16, {N, 64});
            const Tensor out(d, memory::wide, 0, ACL_FLOAT16, {N, 64});
            CALL(aclnnGelu, self, out);
        }
        for (const Sequence &sequence : n.sequences) {
            const int64_t start = sequence.start;
            const int64_t length = sequence.length;
            const int64_t first = sequence.first;
            const int64_t page = sequence.page;
            {  // cache_append: f16[2, length, 8], f16[2, length, 8]
                const Tensor selfRef(d, memory::kv, 4096 * page, ACL_FLOAT16, {2, length, 8},
                    /* strides */ {512, 8, 1}, /* offset */ 8 * first, /* of */ {2, 64, 8});
                const Tensor src(d, memory::q, 0, ACL_FLOAT16, {2, length, 8}, /* strides */ {8, 16, 1},
                    /* offset */ 16 * start, /* of */ {N, 2, 8});
                CALL(aclnnInplaceCopy, selfRef, src);
            }
            {  // cache_append: f16[2, length, 8], f16[2, length, 8]
                const Tensor selfRef(d, memory::kv, 4096 * page + 2048, ACL_FLOAT16, {2, length, 8},
                    /* strides */ {512, 8, 1}, /* offset */ 8 * first, /* of */ {2, 64, 8});
                const Tensor src(d, memory::new_, 0, ACL_FLOAT16, {2, length, 8}, /* strides */ {8, 16, 1},
                    /* offset */ 16 * start, /* of */ {N, 2, 8});
                CALL(aclnnInplaceCopy, selfRef, src);
            }
        }
        for (const Sequence &sequence : n.sequences) {
            const int64_t start = sequence.start;
            const int64_t length = sequence.length;
            const int64_t first = sequence.first;
            const int64_t page = sequence.page;
            for (int64_t from = 0; from < length; from += 16) {
                const int64_t rows = std::min<int64_t>(16, length - from);
                const int64_t context = first + from + rows;
                const int64_t ahead = 64 - context;
                {  // alibi_attention: f16[2, rows, 8], f16[2, rows, 8]
                    const Tensor selfRef(d, memory::t15, 0, ACL_FLOAT16, {2, rows, 8});
                    const Tensor src(d, memory::q, 0, ACL_FLOAT16, {2, rows, 8}, /* strides */ {8, 16, 1},
                        /* offset */ 16 * from + 16 * start, /* of */ {N, 2, 8});
                    CALL(aclnnInplaceCopy, selfRef, src);
                }
                {  // alibi_attention: f16[2, rows, 8], f16[2, 8, context] -> f32[2, rows, context]
                    const Tensor self(d, memory::t15, 0, ACL_FLOAT16, {2, rows, 8});
                    const Tensor mat2(d, memory::kv, 4096 * page, ACL_FLOAT16, {2, 8, context},
                        /* strides */ {512, 1, 8}, /* offset */ 0, /* of */ {2, 64, 8});
                    const Tensor out(d, memory::t16, 0, ACL_FLOAT, {2, rows, context});
                    CALL(aclnnBatchMatMul, self, mat2, out, KEEP_DTYPE);
                }
                {  // alibi_attention: f32[2, rows, context]
                    const Tensor selfRef(d, memory::t16, 0, ACL_FLOAT, {2, rows, context});
                    const Scalar other(float(0.35), ACL_FLOAT);
                    CALL(aclnnInplaceMuls, selfRef, other);
                }
                {  // alibi_attention: f32[2, rows, context], f32[2, rows, context]
                    const Tensor selfRef(d, memory::t16, 0, ACL_FLOAT, {2, rows, context});
                    const Tensor other(d, memory::t14, 0, ACL_FLOAT, {2, rows, context}, /* strides */ {1280, 80, 1},
                        /* offset */ ahead + rows, /* of */ {2, 16, 80});
                    const Scalar alpha(float(1.0), ACL_FLOAT);
                    CALL(aclnnInplaceAdd, selfRef, other, alpha);
                }
                {  // alibi_attention: f32[2, rows, context] -> f32[2, rows, context]
                    const Tensor self(d, memory::t16, 0, ACL_FLOAT, {2, rows, context});
                    const Tensor out(d, memory::t17, 0, ACL_FLOAT, {2, rows, context});
                    CALL(aclnnSoftmax, self, /* dim */ -1, out);
                }
                {  // alibi_attention: f32[2, rows, context] -> f16[2, rows, context]
                    const Tensor self(d, memory::t17, 0, ACL_FLOAT, {2, rows, context});
                    const Tensor out(d, memory::t18, 0, ACL_FLOAT16, {2, rows, context});
                    CALL(aclnnCast, self, ACL_FLOAT16, out);
                }
                {  // alibi_attention: f16[2, rows, context], f16[2, context, 8] -> f32[2, rows, 8]
                    const Tensor self(d, memory::t18, 0, ACL_FLOAT16, {2, rows, context});
                    const Tensor mat2(d, memory::kv, 4096 * page + 2048, ACL_FLOAT16, {2, context, 8},
                        /* strides */ {512, 8, 1}, /* offset */ 0, /* of */ {2, 64, 8});
                    const Tensor out(d, memory::t19, 0, ACL_FLOAT, {2, rows, 8});
                    CALL(aclnnBatchMatMul, self, mat2, out, KEEP_DTYPE);
                }
                {  // alibi_attention: f16[2, rows, 8], f32[2, rows, 8]
                    const Tensor selfRef(d, memory::attended, 0, ACL_FLOAT16, {2, rows, 8}, /* strides */ {8, 16, 1},
                        /* offset */ 16 * from + 16 * start, /* of */ {N, 2, 8});
                    const Tensor src(d, memory::t19, 0, ACL_FLOAT, {2, rows, 8});
                    CALL(aclnnInplaceCopy, selfRef, src);
                }
            }
        }
        {  // matmul: f16[N, 64], f16[64, 32] -> f16[N, 32]
            const Tensor self(d, memory::wide, 0, ACL_FLOAT16, {N, 64});
            const Tensor mat2(d, memory::h_down, 4160 * layer, ACL_FLOAT16, {64, 32});
            const Tensor out(d, memory::owed, 0, ACL_FLOAT16, {N, 32});
            CALL(aclnnMm, self, mat2, out, KEEP_DTYPE);
        }
        // f16[N, 32] -> f16[N, 32]
        TRY(HcclAllReduce(d.at(memory::owed), d.at(memory::y), static_cast<uint64_t>(32 * N), HCCL_DATA_TYPE_FP16,
            HCCL_REDUCE_SUM, d.comms[COMM_mp], d.compute));
        {  // add: f16[N, 32], f16[N, 32] -> f16[N, 32]
            const Tensor self(d, memory::x, 0, ACL_FLOAT16, {N, 32});
            const Tensor other(d, memory::y, 0, ACL_FLOAT16, {N, 32});
            const Scalar alpha(uint16_t(0x3c00 /* 1.0 */), ACL_FLOAT16);
            const Tensor out(d, memory::x, 0, ACL_FLOAT16, {N, 32});
            CALL(aclnnAdd, self, other, alpha, out);
        }
    }
    // to the next stage: f16[N, 32]
    TRY(HcclSend(d.at(memory::x), static_cast<uint64_t>(32 * N), HCCL_DATA_TYPE_FP16, d.rank + 2,
        d.comms[COMM_world], d.compute));
    return 0;
}

const Part part = {
    0,
    0,
    2,
    {43456, 16448, 448, 7104, 22336, 1048576},
    {
        host(memory::ids),
        parameter(memory::word_embeddings),
        parameter(memory::h_up),
        parameter(memory::h_down),
        state(memory::kv),
        parameter(memory::slopes),
        host(memory::rows),
        table(memory::t14, {{0.3, 0.07, 0.011, 1e-6}, AXIS_mp, 2, 16, 64, ACL_FLOAT}),
    },
    {
        {"body_1_16", 1, 16, body_1_16, {16, {{0, 16, 0, 0}}}},
    },
};

}  // namespace stage_0

// ---- Stages 1..1, 2 layers each. ----
namespace stage_1 {

namespace memory {
constexpr Buffer x{"x", VALUES, 0, 1024, 1, 1088};
constexpr Buffer half{"half", VALUES, 1088, 512, 1, 576};
constexpr Buffer a_b{"a-b", VALUES, 1664, 1024, 1, 1088};
constexpr Buffer scores{"scores", IO, 0, 2048, 1, 2112};
}  // namespace memory

// `body`, N 1..16
static int body_1_16(Device &d, const Sizes &n) {
    const int64_t N = n.N;
    const int64_t mp = d.place[AXIS_mp];
    // from the stage before: f16[N, 32]
    TRY(HcclRecv(d.at(memory::x), static_cast<uint64_t>(32 * N), HCCL_DATA_TYPE_FP16, d.rank - 2,
        d.comms[COMM_world], d.compute));
    // f16[16*N] -> f16[N, 32]
    TRY(HcclAllGather(d.at(memory::half), d.at(memory::x), static_cast<uint64_t>(16 * N), HCCL_DATA_TYPE_FP16,
        d.comms[COMM_mp], d.compute));
    // f16[N, 32] -> f16[N, 16]
    TRY(HcclReduceScatter(d.at(memory::x), d.at(memory::half), static_cast<uint64_t>(16 * N), HCCL_DATA_TYPE_FP16,
        HCCL_REDUCE_SUM, d.comms[COMM_mp], d.compute));
    {  // f16[1, 32]
        const size_t bytes = static_cast<size_t>(64);
        TRY(aclrtMemcpyAsync(d.at(memory::a_b, 512 * mp), bytes, d.at(memory::x), bytes, ACL_MEMCPY_DEVICE_TO_DEVICE,
            d.compute));
    }
    {  // by hand: f16[N, 32]
        const Scalar start_2(int64_t(2 * N), ACL_INT64);
        const Scalar end(uint16_t(0x3c00 /* 1.0 */), ACL_FLOAT16);
        const Scalar step(float(N), ACL_FLOAT);
        const Tensor out(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnArange, start_2, end, step, out);
    }
    {  // by hand: f16[N, 16], f16[N, 16] -> f16[N, 32]
        Tensor tensors_0(d, memory::half, 0, ACL_FLOAT16, {N, 16});
        Tensor tensors_1(d, memory::half, 0, ACL_FLOAT16, {N, 16});
        const Tensors tensors(std::vector<const aclTensor *>{tensors_0.release(), tensors_1.release()});
        const Tensor out(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnCat, tensors, /* dim */ -1, out);
    }
    {  // by hand: f16[N, 32] -> f32[1, 32]
        const Tensor self(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        const Ints dims(Dims{});
        const Tensor out(d, memory::scores, 0, ACL_FLOAT, {1, 32}, /* strides */ {32, 1}, /* offset */ 0,
            /* of */ {N, 32});
        CALL(aclnnReduceSum, self, dims, /* keepDims */ true, ACL_FLOAT, out);
    }
    {  // by hand: f16[N, 32], f16[32, N] -> f16[N, 32]
        const Tensor gradOutput(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        const Tensor self(d, memory::x, 0, ACL_FLOAT16, {32, N}, /* strides */ {1, 32}, /* offset */ 0,
            /* of */ {N, 32});
        const Tensor gradInput(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnGeluBackwardV2, gradOutput, self, /* approximate */ "tanh", gradInput);
    }
    {  // by hand: f16[N, 32], f16[32, N] -> f16[N, 32]
        const Tensor x1(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        const Tensor x2(d, memory::x, 0, ACL_FLOAT16, {32, N}, /* strides */ {1, 32}, /* offset */ 0,
            /* of */ {N, 32});
        const Tensor output(d, memory::a_b, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnMatmulAllReduce, x1, x2, /* bias */ nullptr, d.groups[COMM_mp].data(), /* reduceOp */ "sum",
            /* commTurn */ 0, /* streamMode */ 1, output);
    }
    {  // by hand: f16[N, 32] -> f16[N, 32]
        const Tensor input(d, memory::x, 0, ACL_FLOAT16, {N, 32});
        const Ints normalizedShape(Dims{32});
        const Tensor out(d, memory::a_b, 0, ACL_FLOAT16, {N, 32});
        CALL(aclnnLayerNorm, input, normalizedShape, /* weightOptional */ nullptr, /* biasOptional */ nullptr,
            /* eps */ 1e-5, out, /* meanOutOptional */ nullptr, /* rstdOutOptional */ nullptr);
    }
    for ([[maybe_unused]] const Sequence &sequence : n.sequences) {
        TRY(aclrtSynchronizeStream(d.compute));
    }
    TRY(aclrtRecordEvent(d.events[1], d.compute));
    TRY(aclrtStreamWaitEvent(d.transfer, d.events[1]));
    {  // f32[N, 32]
        const size_t bytes = static_cast<size_t>(128 * N);
        TRY(aclrtMemcpyAsync(d.host.at(&memory::scores), bytes, d.at(memory::scores), bytes,
            ACL_MEMCPY_DEVICE_TO_HOST, d.transfer));
    }
    TRY(aclrtSynchronizeStream(d.transfer));
    return 0;
}

const Part part = {
    1,
    1,
    2,
    {1048576, 1048576, 2112, 2752, 1048576, 1048576},
    {
        host(memory::scores),
    },
    {
        {"body_1_16", 1, 16, body_1_16, {16, {{0, 16, 0, 0}}}},
    },
};

}  // namespace stage_1

const std::vector<const Part *> parts = {&stage_0::part, &stage_1::part};

// ---- Running it. ----

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The nearest f16, ties to even.
inline uint16_t half_of(float value) {
    const uint32_t sign = bits_of(value) >> 16 & 0x8000u;
    const float size = std::fabs(value);
    if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00u);
    if (size < 6.103515625e-5f) return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::lrint(size * 16777216.0f)));
    const uint32_t bits = bits_of(size);
    return static_cast<uint16_t>(sign | (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13);
}

// The nearest bf16, ties to even.
inline uint16_t bfloat_of(float value) {
    const uint32_t bits = bits_of(value);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline void append(std::vector<char> &bytes, float value, aclDataType type) {
    const uint16_t narrow = type == ACL_BF16 ? bfloat_of(value) : half_of(value);
    const bool wide = type == ACL_FLOAT;
    const char *from = wide ? reinterpret_cast<const char *>(&value) : reinterpret_cast<const char *>(&narrow);
    bytes.insert(bytes.end(), from, from + (wide ? sizeof value : sizeof narrow));
}

// The elements of a table, for a rank at this place of the axis its heads are shared over.
inline std::vector<char> elements(const Distances &t, int64_t place) {
    constexpr float HIDDEN = -65504.0f;
    std::vector<char> bytes;
    for (int64_t head = place * t.heads; head < (place + 1) * t.heads; ++head) {
        for (int64_t row = 0; row < t.rows; ++row) {
            for (int64_t k = 0; k < t.reach + t.rows; ++k) {
                const int64_t distance = k - t.reach - row;
                const double slope = t.slopes.at(static_cast<size_t>(head));
                append(bytes, distance > 0 ? HIDDEN : static_cast<float>(slope * static_cast<double>(distance)), t.type);
            }
        }
    }
    return bytes;
}

// The rank's part of a parameter, layer by layer, from FOLDER/NAME.RANK.bin; zeros without a folder.
inline int read_parameter(const Buffer &b, uint32_t rank, const char *folder, std::vector<char> &bytes) {
    bytes.assign(static_cast<size_t>(b.bytes * b.layers), 0);
    if (folder == nullptr) return 0;
    const std::string path = std::string(folder) + "/" + b.name + "." + std::to_string(rank) + ".bin";
    std::ifstream file(path, std::ios::binary);
    if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
        std::fprintf(stderr, "%s: not %zu bytes\n", path.c_str(), bytes.size());
        return 1;
    }
    return 0;
}

inline int upload(const Device &d, const Buffer &b, const std::vector<char> &bytes) {
    for (int64_t layer = 0; layer < b.layers; ++layer) {
        const char *from = bytes.data() + layer * b.bytes;
        const size_t size = static_cast<size_t>(b.bytes);
        TRY(aclrtMemcpy(d.at(b, layer * b.pitch), size, from, size, ACL_MEMCPY_HOST_TO_DEVICE));
    }
    return 0;
}

inline int fill(Device &d, const Held &held, const char *folder) {
    const Buffer &b = *held.buffer;
    std::vector<char> bytes;
    switch (held.kind) {
        case Held::PARAMETER:
            if (const int code = read_parameter(b, d.rank, folder, bytes)) return code;
            return upload(d, b, bytes);
        case Held::TABLE: {
            const int axis = held.distances.axis;
            bytes = elements(held.distances, axis < 0 ? 0 : d.place.at(static_cast<size_t>(axis)));
            return upload(d, b, bytes);
        }
        case Held::STATE:
            break;
        case Held::HOST: {
            void *memory = nullptr;
            TRY(aclrtMallocHost(&memory, static_cast<size_t>(b.pitch * b.layers)));
            std::memset(memory, 0, static_cast<size_t>(b.pitch * b.layers));
            d.host[&b] = static_cast<char *>(memory);
            break;
        }
    }
    const size_t size = static_cast<size_t>(b.pitch * b.layers);
    TRY(aclrtMemset(d.at(b), size, 0, size));
    return 0;
}

// The first rank of a group makes the root info and leaves it in a folder that all of the group see.
inline int root_info(const std::string &path, bool first, HcclRootInfo &root) {
    if (first) {
        TRY(HcclGetRootInfo(&root));
        std::ofstream(path + ".new", std::ios::binary).write(reinterpret_cast<const char *>(&root), sizeof root);
        return std::rename((path + ".new").c_str(), path.c_str());
    }
    for (int tries = 0; tries < 1200; ++tries) {
        std::ifstream file(path, std::ios::binary);
        if (file.read(reinterpret_cast<char *>(&root), sizeof root)) return 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    std::fprintf(stderr, "%s: did not come in two minutes\n", path.c_str());
    return 1;
}

// Joins the rank's group of every communicator; all ranks do so in the same order.
inline int join(Device &d, const char *folder) {
    d.comms.assign(communicators.size(), nullptr);
    d.groups.resize(communicators.size());
    for (size_t i = 0; i < communicators.size(); ++i) {
        for (const std::vector<uint32_t> &group : communicators[i].groups) {
            const auto place = std::find(group.begin(), group.end(), d.rank);
            if (place == group.end()) continue;
            const std::string file = std::string(communicators[i].name) + "." + std::to_string(group.front()) + ".root";
            HcclRootInfo root;
            if (const int code = root_info(std::string(folder) + "/" + file, place == group.begin(), root)) return code;
            const uint32_t ranks = static_cast<uint32_t>(group.size()), rank = static_cast<uint32_t>(place - group.begin());
            TRY(HcclCommInitRootInfo(ranks, &root, rank, &d.comms[i]));
            TRY(HcclGetCommName(d.comms[i], d.groups[i].data()));
        }
    }
    return 0;
}

inline int open(Device &d, const Part &part, int32_t device, const char *folder, const char *weights) {
    TRY(aclInit(nullptr));
    TRY(aclrtSetDevice(device));
    const char *soc = aclrtGetSocName();
    if (std::find(socs.begin(), socs.end(), soc != nullptr ? soc : "") == socs.end())
        std::fprintf(stderr, "warning: this chip is %s, which the plan is not for\n", soc != nullptr ? soc : "unknown");
    if (const int code = join(d, folder)) return code;
    TRY(aclrtCreateStream(&d.compute));
    TRY(aclrtCreateStream(&d.transfer));
    d.events.assign(EVENTS, nullptr);
    for (aclrtEvent &event : d.events) TRY(aclrtCreateEventExWithFlag(&event, ACL_EVENT_SYNC));
    for (int arena = 0; arena < WORKSPACE; ++arena) {
        const size_t bytes = static_cast<size_t>(part.arenas[static_cast<size_t>(arena)]);
        if (bytes > 0) TRY(aclrtMalloc(&d.arenas[arena], bytes, ACL_MEM_MALLOC_HUGE_FIRST));
    }
    if (const int code = reserve(d, static_cast<uint64_t>(part.arenas[WORKSPACE]))) return code;
    for (const Held &held : part.held)
        if (const int code = fill(d, held, weights)) return code;
    return 0;
}

// Everything back, last first.
inline int close(Device &d, int32_t device) {
    TRY(aclrtSynchronizeStream(d.compute));
    TRY(aclrtSynchronizeStream(d.transfer));
    for (const auto &[buffer, memory] : d.host) TRY(aclrtFreeHost(memory));
    if (d.workspace != nullptr) TRY(aclrtFree(d.workspace));
    for (void *arena : d.arenas)
        if (arena != nullptr) TRY(aclrtFree(arena));
    for (aclrtEvent event : d.events) TRY(aclrtDestroyEvent(event));
    TRY(aclrtDestroyStream(d.transfer));
    TRY(aclrtDestroyStream(d.compute));
    for (HcclComm comm : d.comms)
        if (comm != nullptr) TRY(HcclCommDestroy(comm));
    TRY(aclrtResetDevice(device));
    TRY(aclFinalize());
    return 0;
}

// A rank's place along each axis of the mesh; the last axis is fastest.
inline Dims place_of(int64_t rank) {
    Dims place(mesh.size());
    for (size_t axis = mesh.size(); axis > 0; --axis) {
        place[axis - 1] = rank % mesh[axis - 1];
        rank /= mesh[axis - 1];
    }
    return place;
}

// DEVICE [RANK FOLDER [WEIGHTS]]: every entry once at its largest sizes, on inputs that are zero. Says whether the libraries
// take every call; what comes out means something only with weights.
int main(int argc, char **argv) {
    if (argc < 2 || (RANKS > 1 && argc < 4)) {
        std::fprintf(stderr, "usage: %s DEVICE [RANK FOLDER-OF-ALL-RANKS [WEIGHTS]]\n", argv[0]);
        return 2;
    }
    const int32_t device = std::atoi(argv[1]);
    Device d;
    d.rank = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 0;
    d.place = place_of(d.rank);
    const int64_t stage = d.rank / RANKS_PER_STAGE;
    for (const Part *part : parts) {
        if (stage < part->first_stage || stage > part->last_stage) continue;
        if (open(d, *part, device, argc > 3 ? argv[3] : ".", argc > 4 ? argv[4] : nullptr) != 0) return 1;
        for (const Entry &entry : part->entries) {
            if (entry.run(d, entry.largest) != 0) return 1;
            TRY(aclrtSynchronizeStream(d.compute));
            TRY(aclrtSynchronizeStream(d.transfer));
            std::printf("rank %u: %s ran\n", d.rank, entry.name);
        }
        return close(d, device) == 0 ? 0 : 1;
    }
    std::fprintf(stderr, "there is no rank %u\n", d.rank);
    return 2;
}

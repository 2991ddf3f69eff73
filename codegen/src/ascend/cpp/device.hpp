
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

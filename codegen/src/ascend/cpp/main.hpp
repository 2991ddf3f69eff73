
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

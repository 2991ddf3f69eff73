    vf rest = normalised(vf_load_f32_n(x + WHOLE, WIDTH - WHOLE), m, @gamma@, @beta@);
    vf_store_n(to + WHOLE, rest, WIDTH - WHOLE);

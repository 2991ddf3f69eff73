    vf gamma_rest = vf_load_@gamma_type@_n(gamma + WHOLE, WIDTH - WHOLE);
    vf beta_rest = vf_load_@beta_type@_n(beta + WHOLE, WIDTH - WHOLE);
    vf rest = normalised(vf_load_f32_n(x + WHOLE, WIDTH - WHOLE), m, gamma_rest, beta_rest);
    vf_store_n(to + WHOLE, rest, WIDTH - WHOLE);

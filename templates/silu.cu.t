/* v / (1 + exp(-v)) */
DEVICE float silu(float v) { return v * rcp_f(1.0f + exp2_f(-1.44269504f * v)); }

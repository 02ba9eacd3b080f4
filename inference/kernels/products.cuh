// What products of activations with quantized weights are given: the same for all kernels that compute them.
#pragma once
#include "activations.cuh"

constexpr u32 MAX_PARTS = 3;

// One matrix of those that read the same activations: query, key and value; gate and up.
struct Part {
    const u8* weights;  // [tiles][columns / tile columns] tiles
    u32 format;
    u32 tiles;
    u32 first_block;  // along grid y; each block does a tile a warp
    u32 column;       // of the output
};

struct MultiplyParams {
    Part parts[MAX_PARTS];
    Activations x;
    float* out;  // [splits or 1][rows][stride]
    u32 part_count;
    u32 rows;
    u32 stride;
    u32 splits;
};

// What a dual batch looks like on the device: value rows 0 .. values-1, then tangent rows grouped by their value row in order.
// Every buffer of activations has one line per row. Launchers fill these structs from C# types of the same layout (Rows.cs).
#pragma once
#include "platform.cuh"

// One block's part of a feedback law: u = Σ_j (c_j + s_j α[termSensor_j]) w_j, α[sensor_i] = β_i − v_i·x.
struct TillerLayerLaw
{
    const float* v;         // (sensors, D)
    const float* beta;      // (sensors)
    const int* sensor;      // (sensors) index among all of the law's
    const float* w;         // (terms, D)
    const float* c;         // (terms)
    const float* s;         // (terms)
    const int* termSensor;  // (terms) index among all of the law's, -1 for none
    int sensors;
    int terms;
};

// A law at work in one sequence; a slot is one steered row of the batch.
struct TillerSteering
{
    const TillerLayerLaw* layers; // (L)
    float* errors;          // (slots, sensors) α as last read
    float* tangentErrors;   // (tangent rows of the batch, sensors) dα
    float* inputNorms;      // (slots, L) |u_k|
    float* stateNorms;      // (slots, L) |x_k|
    float* freeNorms;       // (slots, L) |u_k| before the bound
    int sensors;            // of the whole law
    int layerCount;         // L
    float maxEffort;        // bound on |u_k|; infinity for none
    int reserved;
    const TillerSteering* next; // where the step after this one is taken down, in its first line; null: here
};

// One value row: a token of some sequence.
struct TillerRow
{
    int id;                 // token
    int position;           // its keys and values are stored there
    int capacity;           // positions that the cache has room for
    int slot;               // line of `steering`
    int firstTangent;       // its tangent rows, counted from the first tangent row
    int endTangent;
    int isLong;             // turned by the second half of the rotary tables
    int reserved;
    float* cache;           // keys after RoPE and values: layer k, head g at ((2 k G + g) capacity) E, values at g + G
    const TillerSteering* steering; // null for a plain row
};

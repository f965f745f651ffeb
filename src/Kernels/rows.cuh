// The layout of a dual batch on the device: value rows 0 .. values-1, then tangent rows grouped by their value row in order.
// Every buffer of activations has one line for each row. Launchers fill these structs from C# types of the same layout (Rows.cs).
#pragma once
#include "platform.cuh"

// An odd function of an error (docs/math.md §6): slope e up to the knee; beyond, a cubic between nodes of q = knee/|e|, in units of scale.
struct TillerCurve
{
    const float* nodes;        // (count) q, from 0 to 1
    const float* cubics;       // (count, 2) value and slope in q
    int count;                 // 0 for the error itself
    float knee;
    float slope;
    float scale;
};

// The part of a feedback law for one stage: u = Σ_j (c_j + Σ_i m_ji φ_ji(e_i)) w_j over the terms whose gate is open,
// e[sensor_i] = clip(v_i·x) − v_i·x.
struct TillerLayerLaw
{
    const float* v;            // (sensors, D)
    const float* low;          // (sensors) v·x is clipped to [low, high]; for a setpoint, both are equal
    const float* high;         // (sensors)
    const int* sensor;         // (sensors) index in the whole law
    const float* w;            // (terms, D)
    const float* c;            // (terms)
    const int* gate;           // (terms) index in the whole law of the sensor whose error is negative if the gate is open; -1 for no gate
    const int* feedBegin;      // (terms + 1) first feed of each term, which is a row of m
    const int* feedSensor;     // (feeds) index of the sensor in the whole law
    const float* feedGain;     // (feeds)
    const TillerCurve* curves; // (feeds) φ; null if all are the errors themselves
    const int* planeSensors;   // (planes, 2) indices of two sensors of this stage, whose errors e become |e| t + e
    const float* planeTargets; // (planes, 2) t
    int sensors;
    int terms;
    int planes;
    int bends;                 // whether there is an interval or a plane
    int keepsNorm;             // whether |x| is wanted: there are terms, or edits in the block
    int reserved;
};

// An edit of an activation (edit.cu).
struct TillerEdit
{
    const float* numbers;      // its vectors: w, b, low, high; r; c; weights (m) and signs (2, D + 1)
    const int* places;         // of a flow: place of each coordinate (2, D + 1), coordinates by place (2, D + 1), where each place begins (2 m + 1)
    int kind;                  // TillerEditKind
    int size;                  // m
    int gate;                  // as of a term
    int steps;                 // of a flow
    float strength;
    float rootGamma;           // √γ
    float rootConstant;        // √c0
    int joins;                 // whether the rows of a pass are scaled back together
};

// A law that runs in one sequence. A slot is one steered row of the batch.
struct TillerSteering
{
    const TillerLayerLaw* layers; // (layerCount)
    float* errors;          // (slots, sensors) e, as last read
    float* tangentErrors;   // (tangent rows of the batch, sensors) de
    float* inputNorms;      // (slots, layerCount) |u_k|
    float* stateNorms;      // (slots, layerCount) |x_k|
    float* freeNorms;       // (slots, layerCount) |u_k| before the bound
    int sensors;            // number of sensors in the whole law
    int layerCount;         // number of stages: L, or 2 L if block inputs are moved; stage L + k is the input of block k
    float maxEffort;        // bound on |u_k|; infinity for none
    int firstStage;         // the stage that comes first in a step: 0, or L
    const TillerSteering* next; // the record whose first line the next step writes; null: this one
    const TillerEdit* edits; // by point and block; null for none
    const int* editBegin;    // (editPoints + 1)
    float* editNorms;        // (slots, editPoints) |Δz|
    float* joined;           // (slots, 2) |z| before and after, of rows that are scaled back together
    float* editScratch;      // (slots, D) of flows
    int editPoints;          // 4 L
    int reserved;
};

// One value row: a token of some sequence.
struct TillerRow
{
    int id;                 // token id
    int position;           // position in the sequence; its keys and values are stored there
    int capacity;           // number of positions in the cache
    int slot;               // the row's line in `steering`
    int firstTangent;       // its tangent rows [firstTangent, endTangent), counted from the first tangent row
    int endTangent;
    int isLong;             // 1 if the second half of the rotary tables is used
    int reserved;
    float* cache;           // keys after RoPE and values: layer k, head g at ((2 k G + g) capacity) E, values at g + G
    const TillerSteering* steering; // null for a plain row
};

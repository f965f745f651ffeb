// Streams run their work at once; a capturing stream keeps it as the nodes of a graph. Events record the time of the host's clock.
#include "hostcuda.h"
#include "races.h"
#include <chrono>

using namespace tillerhost;

namespace
{
struct Event : Object
{
    std::chrono::steady_clock::time_point at;
    bool recorded = false, timed = true;
};

struct GraphExec : Object
{
    std::vector<Node> nodes;
};
}

namespace tillerhost
{
Stream* findStream(void* handle) { return handle ? find<Stream>(handle) : &state().defaultStream; }

int runOrRecord(Stream& stream, Node node)
{
    if (!stream.capturing())
    {
        if (node.kind != Node::Kernel) { races::serialize(); }
        state().queued = true;
        return node.run();
    }
    stream.capture->nodes.push_back(std::move(node));
    return Success;
}

void noteFree() { state().eagerFrees += state().queued; }

bool forbiddenByCapture()
{
    bool forbidden = false;
    for (const auto& weak : state().captures)
    {
        const auto capture = weak.lock();
        if (capture && !capture->ended && capture->mode != 2) // 2 is CU_STREAM_CAPTURE_MODE_RELAXED
        {
            capture->invalid = true;
            forbidden = true;
        }
    }
    return forbidden;
}
}

HOST_CUDA int cuStreamCreate(void** stream, unsigned)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    *stream = make<Stream>();
    return Success;
}
HOST_CUDA int cuStreamDestroy_v2(void* stream)
{
    Call call(Need::Release);
    const bool known = destroy<Stream>(stream);
    return call.error ? call.error : known ? Success : InvalidHandle;
}
HOST_CUDA int cuStreamSynchronize(void* stream)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Stream* on = findStream(stream);
    if (!on) { return InvalidHandle; }
    if (!on->capturing())
    {
        races::serialize();
        state().queued = false;
        return Success;
    }
    on->capture->invalid = true;
    return CaptureUnsupported;
}
HOST_CUDA int cuStreamQuery(void* stream) { return cuStreamSynchronize(stream); }

HOST_CUDA int cuEventCreate(void** event, unsigned flags)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Event* e = make<Event>();
    e->timed = !(flags & 2); // CU_EVENT_DISABLE_TIMING
    *event = e;
    return Success;
}
HOST_CUDA int cuEventDestroy_v2(void* event)
{
    Call call(Need::Release);
    const bool known = destroy<Event>(event);
    return call.error ? call.error : known ? Success : InvalidHandle;
}
HOST_CUDA int cuEventRecord(void* event, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Stream* on = findStream(stream);
    Event* e = find<Event>(event);
    if (!on || !e) { return InvalidHandle; }
    e->recorded = !on->capturing();
    e->at = std::chrono::steady_clock::now();
    return Success;
}
HOST_CUDA int cuEventSynchronize(void* event)
{
    Call call(Need::Context);
    return call.error ? call.error : find<Event>(event) ? Success : InvalidHandle;
}
HOST_CUDA int cuEventElapsedTime(float* milliseconds, void* start, void* end)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    const Event *a = find<Event>(start), *b = find<Event>(end);
    if (!a || !b || !a->recorded || !b->recorded || !a->timed || !b->timed) { return InvalidHandle; }
    *milliseconds = std::chrono::duration<float, std::milli>(b->at - a->at).count();
    return Success;
}

HOST_CUDA int cuStreamBeginCapture_v2(void* stream, int mode)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    if (!stream) { return CaptureUnsupported; } // the legacy default stream cannot be captured
    Stream* on = findStream(stream);
    if (!on) { return InvalidHandle; }
    if (on->capturing()) { return IllegalState; }
    on->capture = std::make_shared<Capture>();
    on->capture->origin = stream;
    on->capture->mode = mode;
    std::erase_if(state().captures, [](const auto& weak) { return weak.expired(); });
    state().captures.push_back(on->capture);
    return Success;
}
HOST_CUDA int cuStreamEndCapture(void* stream, void** graph)
{
    Call call(Need::Context);
    *graph = nullptr;
    Stream* on = findStream(stream);
    if (!on) { return call.error ? call.error : InvalidHandle; }
    if (!on->capturing() || on->capture->origin != stream) { return call.error ? call.error : IllegalState; }
    const auto capture = std::move(on->capture);
    capture->ended = true;
    if (call.error) { return call.error; }
    if (capture->invalid) { return CaptureInvalidated; }
    Graph* g = make<Graph>();
    g->nodes = std::move(capture->nodes);
    *graph = g;
    return Success;
}
HOST_CUDA int cuStreamIsCapturing(void* stream, int* status)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Stream* on = findStream(stream);
    if (!on) { return InvalidHandle; }
    *status = !on->capturing() ? 0 : on->capture->invalid ? 2 : 1;
    return Success;
}

HOST_CUDA int cuGraphDestroy(void* graph)
{
    Call call(Need::Release);
    const bool known = destroy<Graph>(graph);
    return call.error ? call.error : known ? Success : InvalidHandle;
}
HOST_CUDA int cuGraphGetNodes(void* graph, void** nodes, std::size_t* count)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Graph* g = find<Graph>(graph);
    if (!g) { return InvalidHandle; }
    for (std::size_t i = 0; nodes && i < g->nodes.size() && i < *count; i++) { nodes[i] = &g->nodes[i]; }
    *count = g->nodes.size();
    return Success;
}
HOST_CUDA int cuGraphInstantiateWithFlags(void** exec, void* graph, unsigned long long)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    Graph* g = find<Graph>(graph);
    if (!g) { return InvalidHandle; }
    GraphExec* e = make<GraphExec>();
    e->nodes = g->nodes;
    *exec = e;
    return Success;
}
HOST_CUDA int cuGraphExecDestroy(void* exec)
{
    Call call(Need::Release);
    noteFree();
    const bool known = destroy<GraphExec>(exec);
    return call.error ? call.error : known ? Success : InvalidHandle;
}
HOST_CUDA int cuGraphLaunch(void* exec, void* stream)
{
    Call call(Need::Context);
    if (call.error) { return call.error; }
    GraphExec* e = find<GraphExec>(exec);
    Stream* on = findStream(stream);
    if (!e || !on) { return InvalidHandle; }
    races::serialize(); // a graph begins when all work before it has ended, and work after it begins when the graph has ended
    for (const Node& node : e->nodes)
    {
        if (const int error = runOrRecord(*on, node)) { return error; }
    }
    races::serialize();
    return Success;
}

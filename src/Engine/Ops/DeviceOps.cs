using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Ops;

/// <summary>
/// The arithmetic of one device. The decoder block is written once over the stages below, each coarse enough to be one fused kernel
/// while decoding. A stage takes a dual batch: for value rows it computes, for tangent rows it pushes forward, and linear maps treat
/// both alike; the <c>Pull…</c> stages run the same block backwards on cotangents (docs/math.md §9). Stages of one caller run in order;
/// different callers may run side by side on different <see cref="Activations"/>.
/// </summary>
internal abstract partial class DeviceOps : IDisposable
{
    /// <summary>What runs the arithmetic, such as "cpu (2 threads)".</summary>
    public abstract string Device { get; }

    /// <summary>Passes that the device serves at once without one waiting for another.</summary>
    public virtual int Callers => 1;

    /// <summary>
    /// Rows of a prompt that go through the blocks together: the more, the less often weights are read, and the more scratch there is.
    /// </summary>
    internal virtual int PassRows => 256;

    /// <summary>
    /// Calls <paramref name="body"/>(i) for every i in [0, parts), up to <see cref="Callers"/> at once: passes on activations of their own.
    /// </summary>
    /// <remarks>The first error, by i, is thrown again once all have ended.</remarks>
    public virtual void ForEach(int parts, Action<int> body)
    {
        for (int i = 0; i < parts; i++)
        {
            body(i);
        }
    }

    /// <summary>Zeroed memory on the device.</summary>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
    public abstract DeviceBuffer Allocate(long sizeInBytes);

    /// <summary>Copies from the host to the device.</summary>
    public abstract void Upload(ReadOnlySpan<byte> source, nint destination);

    /// <summary>
    /// Lets <paramref name="fill"/> write <paramref name="sizeInBytes"/> bytes of device memory, in place where the host can. Thread-safe.
    /// </summary>
    public abstract void Fill(nint destination, int sizeInBytes, FillBytes fill);

    /// <summary>Waits until what <see cref="Fill"/> wrote is on the device, and frees what it used on the way.</summary>
    public virtual void EndFill()
    {
    }

    /// <summary>Copies from the device to the host, after all stages called so far.</summary>
    public abstract void Download(nint source, Span<byte> destination);

    /// <summary>Reads row <paramref name="row"/> of <paramref name="source"/>.</summary>
    public void DownloadRow(Floats source, int row, Span<float> destination)
    {
        Debug.Assert(destination.Length == source.Columns, "one row");
        Download(source.Address + (4 * (nint)row * source.Columns), MemoryMarshal.AsBytes(destination));
    }

    /// <summary>Writes row <paramref name="row"/> of <paramref name="destination"/>.</summary>
    public void UploadRow(ReadOnlySpan<float> source, Floats destination, int row)
    {
        Debug.Assert(source.Length == destination.Columns, "one row");
        Upload(MemoryMarshal.AsBytes(source), destination.Address + (4 * (nint)row * destination.Columns));
    }

    /// <summary>
    /// Waits for all that has been queued, so that what it uses may go; by default nothing is. Throws nothing, also after the disposal.
    /// </summary>
    public virtual void Settle()
    {
    }

    /// <summary>Copies within the device.</summary>
    public abstract void Copy(nint source, nint destination, long sizeInBytes);

    /// <summary>Readies a law for one sequence.</summary>
    public abstract SteeringState NewSteering(FeedbackLaw law);

    /// <summary>Readies the steps of one batch.</summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="stages">What a step runs.</param>
    internal abstract Stepper NewStepper(ModelConfig c, StepStages stages);

    /// <summary>
    /// Opens a pass, which brings its rows to the device: their rotations for RoPE, and, where <paramref name="embedding"/> is given, x = scale ·
    /// embedding[id] for value rows.
    /// </summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="frequencies">Rotary tables // (tables, E): E/2 frequencies in radians per position, then E/2 amplitudes.</param>
    /// <param name="embedding">Embedding // (V, D), or null when the caller sets <see cref="Activations.X"/> itself.</param>
    /// <param name="rows">The batch.</param>
    /// <param name="a">Gets the rotations and the residual stream.</param>
    public abstract void Begin(ModelConfig c, Floats frequencies, Matrix? embedding, RowBatch rows, Activations a);

    /// <summary>Stage 1: sensors of block k; norm; q, k, v with bias, norms and RoPE; keys and values of value rows to the cache.</summary>
    public abstract void NormQkv(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Stage 2: attention over the cache, into <see cref="Activations.Heads"/>.</summary>
    public abstract void Attend(ModelConfig c, int k, RowBatch rows, Activations a);

    /// <summary>Stage 3: output projection, post-norm where there is one, residual: R = X + ….</summary>
    public abstract void ProjectOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Stage 4: norm, gate and up, activation, into <see cref="Activations.Gated"/>; a device may form the terms of block k here.</summary>
    public abstract void NormGateUp(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Stage 5: down projection, post-norm where there is one, residual, terms of block k: Y = R + … + u_k.</summary>
    public abstract void ProjectDown(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Final norm and head of value row <paramref name="row"/> of <see cref="Activations.X"/>, with the soft cap.</summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="norm">Final norm // (1, D).</param>
    /// <param name="head">Head // (V, D).</param>
    /// <param name="a">Holds the residual stream that left the last block.</param>
    /// <param name="row">First value row.</param>
    /// <param name="count">Value rows.</param>
    /// <param name="logits">Result // (count, V).</param>
    public abstract void Head(ModelConfig c, Floats norm, Matrix head, Activations a, int row, int count, Floats logits);

    /// <summary>Stage 5 backwards: cotangents of <see cref="Activations.Gated"/> from those of the stream.</summary>
    public abstract void PullDown(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 4 backwards: adds to the stream what came through the gated unit.</summary>
    public abstract void PullGateUp(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 3 backwards: cotangents of <see cref="Activations.Heads"/>.</summary>
    public abstract void PullOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 2 backwards: cotangents of the row's own query, key and value.</summary>
    public abstract void PullAttend(ModelConfig c, int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 1 backwards: adds to the stream what came through attention.</summary>
    public abstract void PullQkv(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Writes all of a span.</summary>
    public delegate void FillBytes(Span<byte> destination);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases the device.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Ops;

/// <summary>
/// The arithmetic of one device. The decoder block is written once, in terms of the stages below. Each stage is coarse enough to be one fused kernel
/// while decoding. A stage takes a dual batch: it computes value rows and pushes tangent rows forward, and linear maps treat both alike. The
/// <c>Pull…</c> stages run the same block backwards on cotangents (docs/math.md §9). Stages of one caller run in order; several callers may run side
/// by side on different <see cref="Activations"/>.
/// </summary>
internal abstract partial class DeviceOps : IDisposable
{
    /// <summary>Name of the device, such as "cpu (2 threads)".</summary>
    public abstract string Device { get; }

    /// <summary>How many passes the device runs at once without one waiting for another.</summary>
    public virtual int Callers => 1;

    /// <summary>
    /// Number of rows of a prompt that go through the blocks together. More rows read the weights less often but need more scratch memory.
    /// </summary>
    internal virtual int PassRows => 256;

    /// <summary>
    /// Number of rows, directions and the prompts that they belong to, of which a pass of a linearisation consists. More rows read the weights less
    /// often but need more scratch memory.
    /// </summary>
    internal virtual int JacobianRows => UsualJacobianRows;

    /// <summary><see cref="JacobianRows"/> of a device that does not say otherwise.</summary>
    internal const int UsualJacobianRows = 512;

    /// <summary>
    /// Calls <paramref name="body"/>(i) for every i in [0, parts), up to <see cref="Callers"/> at once. Each call runs passes on its own activations.
    /// </summary>
    /// <remarks>After all calls have ended, the exception of the smallest i, if any, is thrown again.</remarks>
    public virtual void ForEach(int parts, Action<int> body)
    {
        for (int i = 0; i < parts; i++)
        {
            body(i);
        }
    }

    /// <summary>Allocates zeroed memory on the device.</summary>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    public abstract DeviceBuffer Allocate(long sizeInBytes);

    /// <summary>Copies from the host to the device.</summary>
    public abstract void Upload(ReadOnlySpan<byte> source, nint destination);

    /// <summary>
    /// Lets <paramref name="fill"/> write <paramref name="sizeInBytes"/> bytes of device memory, in place if the host can access it. Thread-safe.
    /// </summary>
    public abstract void Fill(nint destination, int sizeInBytes, FillBytes fill);

    /// <summary>Waits until all data of <see cref="Fill"/> is on the device, and frees the staging memory.</summary>
    public virtual void EndFill()
    {
    }

    /// <summary>Copies from the device to the host after all stages called so far have finished.</summary>
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
    /// Waits for all queued work, so that the memory it uses can be freed. The default has no queue and does nothing. It never throws, even after the
    /// disposal.
    /// </summary>
    public virtual void Settle()
    {
    }

    /// <summary>Copies within the device.</summary>
    public abstract void Copy(nint source, nint destination, long sizeInBytes);

    /// <summary>Creates the steering state of a law for one sequence.</summary>
    public abstract SteeringState NewSteering(FeedbackLaw law);

    /// <summary>Creates the stepper of one batch.</summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="stages">Runs the stages of a step.</param>
    internal abstract Stepper NewStepper(ModelConfig c, StepStages stages);

    /// <summary>
    /// Starts a pass: sends its rows to the device and computes their RoPE rotations. With <paramref name="embedding"/>, it also sets x = scale ·
    /// embedding[id] for value rows.
    /// </summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="frequencies">Rotary tables // (tables, E): E/2 frequencies in radians per position, then E/2 amplitudes.</param>
    /// <param name="embedding">Embedding // (V, D), or null if the caller sets <see cref="Activations.X"/>.</param>
    /// <param name="rows">The batch.</param>
    /// <param name="a">Gets the rotations and the residual stream.</param>
    public abstract void Begin(ModelConfig c, Floats frequencies, Matrix? embedding, RowBatch rows, Activations a);

    /// <summary>Stage 1: sensors of block k; norm; q, k, v with bias, norms and RoPE; writes keys and values of value rows to the cache.</summary>
    public abstract void NormQkv(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Stage 2: attention over the cache, into <see cref="Activations.Heads"/>.</summary>
    public abstract void Attend(ModelConfig c, int k, RowBatch rows, Activations a);

    /// <summary>Stage 3: output projection, post-norm if the model has one, residual: R = X + ….</summary>
    public abstract void ProjectOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>Stage 4: norm, gate and up, activation, into <see cref="Activations.Gated"/>; a device may form the terms of block k here.</summary>
    public abstract void NormGateUp(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a);

    /// <summary>
    /// Stage 5: down projection, post-norm if the model has one, residual, terms of block k: Y = R + … + u_k. Where <paramref name="next"/> is given,
    /// stage 1 of that block comes next, on Y as it is, and a device may begin it.
    /// </summary>
    public abstract void ProjectDown(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a, BlockWeights? next);

    /// <summary>Final norm, head and soft cap for <paramref name="count"/> value rows of <see cref="Activations.X"/>.</summary>
    /// <param name="c">The model's shape.</param>
    /// <param name="norm">Final norm // (1, D).</param>
    /// <param name="head">Head // (V, D).</param>
    /// <param name="a">Holds the residual stream after the last block.</param>
    /// <param name="row">First value row.</param>
    /// <param name="count">Number of value rows.</param>
    /// <param name="logits">Result // (count, V).</param>
    public abstract void Head(ModelConfig c, Floats norm, Matrix head, Activations a, int row, int count, Floats logits);

    /// <summary>Stage 5 backwards: cotangents of <see cref="Activations.Gated"/> from those of the stream.</summary>
    public abstract void PullDown(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 4 backwards: adds the gated unit's part of the cotangent to the stream.</summary>
    public abstract void PullGateUp(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 3 backwards: cotangents of <see cref="Activations.Heads"/>.</summary>
    public abstract void PullOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 2 backwards: cotangents of the row's own query, key and value.</summary>
    public abstract void PullAttend(ModelConfig c, int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Stage 1 backwards: adds attention's part of the cotangent to the stream.</summary>
    public abstract void PullQkv(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y);

    /// <summary>Writes all bytes of a span.</summary>
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

using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Norms of queries and keys, RoPE and writing to the cache, between the projection and attention; and their pullback. Kernels in qkv.cu.
/// </summary>
internal sealed class QkvKernels
{
    private const int HeadsPerBlock = 4;

    private readonly CudaKernel _finish;
    private readonly CudaKernel _pull;
    private readonly CudaKernel _normWidth;
    private readonly CudaKernel _pullWidth;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public QkvKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _finish = kernel("tillerQkvFinish");
        _pull = kernel("tillerQkvPull");
        _normWidth = kernel("tillerQkvNormWidth");
        _pullWidth = kernel("tillerQkvPullWidth");
    }

    /// <summary>
    /// Norms queries and keys, if the model does so, and rotates them by their position, in place. Writes keys and values of value rows to the cache.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows, with their positions and caches.</param>
    /// <param name="qkv">Queries, keys, values // (values + tangents, (H + 2G) E).</param>
    /// <param name="rawQk">Result: queries and keys of the value rows before their norm // (values, (H + G) E); absent without norms.</param>
    /// <param name="rotation">Rotations of the value rows // (values, E).</param>
    /// <param name="norms">Norms of single heads, or absent.</param>
    /// <param name="heads">Shape of the heads.</param>
    /// <param name="layer">Index k of the block.</param>
    /// <param name="sums">Partial sums of qkv, if the projection left them.</param>
    public void Finish(CudaStream stream, in RowTable rows, Floats qkv, Floats rawQk, Floats rotation, in HeadNorms norms, in HeadShape heads,
        int layer, in LinearSums sums = default)
    {
        Debug.Assert(sums.Parts == 0 || (sums.Rows == rows.Total && sums.Columns == heads.QkvWidth), "sums of qkv");
        Debug.Assert(qkv.Holds(rows.Total, heads.QkvWidth), "qkv // (values + tangents, (H + 2G) E)");
        Check(rows.Values, rawQk, rotation, norms, heads);
        var p = new FinishParameters
        {
            Rows = rows.Rows.Address,
            Owners = rows.Owners.Address,
            Qkv = qkv.Address,
            RawQk = rawQk.Address,
            Rotation = rotation.Address,
            QueryNorm = norms.Query.Address,
            KeyNorm = norms.Key.Address,
            Values = rows.Values,
            Queries = heads.H,
            Groups = heads.G,
            E = heads.E,
            Layer = layer,
            Eps = norms.Epsilon,
            Sums = sums,
        };

        // With norms, tangents read the values that the value rows write to rawQk. So these run first.
        bool twice = !norms.AreAbsent && rows.Tangents > 0;
        FinishRows(stream, p, 0, twice ? rows.Values : rows.Total);
        FinishRows(stream, p, rows.Values, twice ? rows.Total : rows.Values);
    }

    private void FinishRows(CudaStream stream, FinishParameters p, int first, int end)
    {
        if (end <= first)
        {
            return;
        }

        (p.FirstRow, p.EndRow) = (first, end);
        long heads = (long)(end - first) * (p.Queries + (2 * p.Groups));
        _finish.Launch(new CudaLaunch(RowLaunch.Blocks(heads, HeadsPerBlock), 1, 1, 32 * HeadsPerBlock, Programmatic: true), stream, p);
    }

    /// <summary>
    /// Computes the cotangents of the projection's queries and keys from those after norm and RoPE, in place. The cotangents of values do not change.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="owners">Value row of each cotangent row // (rows); if there are none, nothing is launched.</param>
    /// <param name="qkvBar">Cotangents // (rows, (H + 2G) E).</param>
    /// <param name="rawQk">Queries and keys before their norm, from <see cref="Finish"/> // (values, (H + G) E); absent without norms.</param>
    /// <param name="rotation">Rotations of the value rows // (values, E).</param>
    /// <param name="norms">Norms of single heads, or absent.</param>
    /// <param name="heads">Shape of the heads.</param>
    public void Pull(CudaStream stream, DeviceSpan<int> owners, Floats qkvBar, Floats rawQk, Floats rotation, in HeadNorms norms, in HeadShape heads)
    {
        int rows = (int)owners.Length;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(qkvBar.Holds(rows, heads.QkvWidth), "qkvBar // (rows, (H + 2G) E)");
        Check(1, rawQk, rotation, norms, heads);
        var p = new PullParameters
        {
            Owners = owners.Address,
            Qkv = qkvBar.Address,
            RawQk = rawQk.Address,
            Rotation = rotation.Address,
            QueryNorm = norms.Query.Address,
            KeyNorm = norms.Key.Address,
            Rows = rows,
            Queries = heads.H,
            Groups = heads.G,
            E = heads.E,
            Eps = norms.Epsilon,
        };
        int blocks = RowLaunch.Blocks((long)rows * (heads.H + heads.G), HeadsPerBlock);
        _pull.Launch(new CudaLaunch(blocks, 1, 1, 32 * HeadsPerBlock, Programmatic: true), stream, p);
    }

    /// <summary>
    /// Norms all queries of a row together, and all its keys together, in place. Then <see cref="Finish"/> is called without norms.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="qkv">Queries, keys, values // (values + tangents, (H + 2G) E).</param>
    /// <param name="rawQk">Result: queries and keys of the value rows before their norm // (values, (H + G) E).</param>
    /// <param name="norms">Weights g of all queries // (1, H E) and of all keys // (1, G E).</param>
    /// <param name="heads">Shape of the heads.</param>
    public void NormWidth(CudaStream stream, in DualRows rows, Floats qkv, Floats rawQk, in HeadNorms norms, in HeadShape heads)
    {
        Debug.Assert(qkv.Holds(rows.Total, heads.QkvWidth) && rawQk.Holds(rows.Values, heads.QkWidth),
            "qkv // (rows, (H + 2G) E), rawQk // (values, (H + G) E)");
        var p = OfWidth(rows.Owners, qkv, rawQk, norms, heads);
        p.Values = rows.Values;
        Launch(rows.Values);
        p.FirstRow = rows.Values;
        Launch(rows.Tangents);

        // Tangents read the values that the value rows write to rawQk. So these run first.
        void Launch(int count)
        {
            if (count > 0)
            {
                _normWidth.Launch(new CudaLaunch(checked(2 * count), 1, 1, 256, Programmatic: true), stream, p);
            }
        }
    }

    /// <summary>
    /// Computes the cotangents before the norms of <see cref="NormWidth"/>, in place. Before it, <see cref="Pull"/> is called without norms.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="owners">Value row of each cotangent row // (rows); if there are none, nothing is launched.</param>
    /// <param name="qkvBar">Cotangents // (rows, (H + 2G) E).</param>
    /// <param name="rawQk">Queries and keys before their norm, from <see cref="NormWidth"/> // (values, (H + G) E).</param>
    /// <param name="norms">Weights g of all queries // (1, H E) and of all keys // (1, G E).</param>
    /// <param name="heads">Shape of the heads.</param>
    public void PullWidth(CudaStream stream, DeviceSpan<int> owners, Floats qkvBar, Floats rawQk, in HeadNorms norms, in HeadShape heads)
    {
        int rows = (int)owners.Length;
        if (rows == 0)
        {
            return;
        }

        Debug.Assert(qkvBar.Holds(rows, heads.QkvWidth), "qkvBar // (rows, (H + 2G) E)");
        _pullWidth.Launch(new CudaLaunch(checked(2 * rows), 1, 1, 256, Programmatic: true), stream, OfWidth(owners, qkvBar, rawQk, norms, heads));
    }

    private static WidthParameters OfWidth(DeviceSpan<int> owners, Floats qkv, Floats rawQk, in HeadNorms norms, in HeadShape heads)
    {
        Debug.Assert(norms.Query.Holds(1, heads.H * heads.E) && norms.Key.Holds(1, heads.G * heads.E), "g // (1, H E) and (1, G E)");
        return new WidthParameters
        {
            Owners = owners.Address,
            Qkv = qkv.Address,
            RawQk = rawQk.Address,
            QueryNorm = norms.Query.Address,
            KeyNorm = norms.Key.Address,
            Queries = heads.H,
            Groups = heads.G,
            E = heads.E,
            Eps = norms.Epsilon,
        };
    }

    [Conditional("DEBUG")]
    private static void Check(int values, Floats rawQk, Floats rotation, in HeadNorms norms, in HeadShape heads)
    {
        Debug.Assert(rotation.Holds(values, heads.E), "rotation // (values, E)");
        Debug.Assert(norms.AreAbsent == norms.Key.IsAbsent, "norms of queries and keys, or of neither");
        Debug.Assert(norms.AreAbsent || (norms.Query.Holds(1, heads.E) && norms.Key.Holds(1, heads.E)), "norms // (1, E)");
        Debug.Assert(norms.AreAbsent || rawQk.Holds(values, heads.QkWidth), "rawQk // (values, (H + G) E)");
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct FinishParameters
    {
        public nint Rows;
        public nint Owners;
        public nint Qkv;
        public nint RawQk;
        public nint Rotation;
        public nint QueryNorm;
        public nint KeyNorm;
        public int Values;
        public int FirstRow;
        public int EndRow;
        public int Queries;
        public int Groups;
        public int E;
        public int Layer;
        public float Eps;
        public LinearSums Sums;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct WidthParameters
    {
        public nint Owners;
        public nint Qkv;
        public nint RawQk;
        public nint QueryNorm;
        public nint KeyNorm;
        public int Values;
        public int FirstRow;
        public int Queries;
        public int Groups;
        public int E;
        public float Eps;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PullParameters
    {
        public nint Owners;
        public nint Qkv;
        public nint RawQk;
        public nint Rotation;
        public nint QueryNorm;
        public nint KeyNorm;
        public int Rows;
        public int Queries;
        public int Groups;
        public int E;
        public float Eps;
    }
}

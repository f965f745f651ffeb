using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Norms, RoPE and the cache: from the projection to what attention reads, and back. Kernels in qkv.cu.</summary>
internal sealed class QkvKernels
{
    private const int HeadsPerBlock = 4;

    private readonly CudaKernel _finish;
    private readonly CudaKernel _pull;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public QkvKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _finish = kernel("tillerQkvFinish");
        _pull = kernel("tillerQkvPull");
    }

    /// <summary>
    /// Queries and keys normed where the model does so and turned by their position, in place; keys and values of value rows to the
    /// cache.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="qkv">Queries, keys, values // (values + tangents, (H + 2G) E).</param>
    /// <param name="rawQk">Gets the value rows' queries and keys before their norm // (values, (H + G) E); 0 without norms.</param>
    /// <param name="rotation">Rotations of the value rows // (values, E).</param>
    /// <param name="queryNorm">g of the queries // (E); 0 without norms.</param>
    /// <param name="keyNorm">g of the keys // (E); 0 without norms.</param>
    /// <param name="eps">ε of the norms.</param>
    /// <param name="H">Query heads.</param>
    /// <param name="G">Key/value heads.</param>
    /// <param name="E">Head size.</param>
    /// <param name="layer">Block k.</param>
    public void Finish(
        CudaStream stream, nint rows, int values, nint owners, int tangents, nint qkv, nint rawQk, nint rotation, nint queryNorm, nint keyNorm,
        float eps, int H, int G, int E, int layer)
    {
        var p = new FinishParameters
        {
            Rows = rows,
            Owners = owners,
            Qkv = qkv,
            RawQk = rawQk,
            Rotation = rotation,
            QueryNorm = queryNorm,
            KeyNorm = keyNorm,
            Values = values,
            Queries = H,
            Groups = G,
            E = E,
            Layer = layer,
            Eps = eps,
        };

        // With norms, tangents read what the value rows leave in rawQk.
        bool twice = queryNorm != 0 && tangents > 0;
        FinishRows(stream, p, 0, twice ? values : values + tangents);
        FinishRows(stream, p, values, twice ? values + tangents : values);
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
    /// Cotangents of the projection's queries and keys from those of the turned and normed ones, in place; those of values stay.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="owners">Value row of each cotangent, int // (rows).</param>
    /// <param name="rows">Cotangent rows; 0 launches nothing.</param>
    /// <param name="qkvBar">Cotangents // (rows, (H + 2G) E).</param>
    /// <param name="rawQk">What <see cref="Finish"/> left // (values, (H + G) E); 0 without norms.</param>
    /// <param name="rotation">Rotations of the value rows // (values, E).</param>
    /// <param name="queryNorm">g of the queries // (E); 0 without norms.</param>
    /// <param name="keyNorm">g of the keys // (E); 0 without norms.</param>
    /// <param name="eps">ε of the norms.</param>
    /// <param name="H">Query heads.</param>
    /// <param name="G">Key/value heads.</param>
    /// <param name="E">Head size.</param>
    public void Pull(
        CudaStream stream, nint owners, int rows, nint qkvBar, nint rawQk, nint rotation, nint queryNorm, nint keyNorm, float eps, int H, int G,
        int E)
    {
        if (rows == 0)
        {
            return;
        }

        var p = new PullParameters
        {
            Owners = owners,
            Qkv = qkvBar,
            RawQk = rawQk,
            Rotation = rotation,
            QueryNorm = queryNorm,
            KeyNorm = keyNorm,
            Rows = rows,
            Queries = H,
            Groups = G,
            E = E,
            Eps = eps,
        };
        int blocks = RowLaunch.Blocks((long)rows * (H + G), HeadsPerBlock);
        _pull.Launch(new CudaLaunch(blocks, 1, 1, 32 * HeadsPerBlock, Programmatic: true), stream, p);
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

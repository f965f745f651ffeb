using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Feedback laws at work on the rows of a dual batch, each row by its own. Kernels in steer.cu. Directions (<see cref="DeviceLayerLaw.V"/>,
/// <see cref="DeviceLayerLaw.W"/>) are 16-byte aligned.
/// </summary>
internal sealed class SteerKernels
{
    private readonly CudaKernel _sense;
    private readonly CudaKernel _senseNorm;
    private readonly CudaKernel _act;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public SteerKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sense = kernel("tillerSteerSense");
        _senseNorm = kernel("tillerSteerSenseNorm");
        _act = kernel("tillerSteerAct");
    }

    /// <summary>
    /// α = β − v·x of the block's sensors into <see cref="DeviceSteering.Errors"/>, −v·dx of tangents into
    /// <see cref="DeviceSteering.TangentErrors"/> (cleared first at layer 0); |x|, and |u| before and after the bound, where the law has
    /// terms.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="x">What enters the block // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="D">Width.</param>
    public void Sense(CudaStream stream, nint rows, int values, nint owners, int tangents, nint x, int layer, int D) =>
        Launch(_sense, stream, rows, values, owners, tangents, x, layer, D);

    /// <summary><see cref="Sense"/> and <see cref="NormKernels.Forward"/> of the same rows in one launch, with the same bits.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="x">What enters the block // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="weight">g of the norm // (D).</param>
    /// <param name="y">x normed // (values + tangents, D); must not overlap <paramref name="x"/>.</param>
    /// <param name="D">Width.</param>
    /// <param name="eps">ε of the norm.</param>
    public void SenseNorm(
        CudaStream stream, nint rows, int values, nint owners, int tangents, nint x, int layer, nint weight, nint y, int D, float eps)
    {
        if (values == 0)
        {
            return;
        }

        var norm = new NormParameters { X = x, Weight = weight, Y = y, Owners = owners, Values = values, D = D, Eps = eps };
        var p = new SenseNormParameters { Rows = rows, Norm = norm, Layer = layer };
        _senseNorm.Launch(new CudaLaunch(values + tangents, 1, 1, RowLaunch.ThreadsPerRow(D), Programmatic: true), stream, p);
    }

    /// <summary>y += u_k with |u_k| at most the law's bound, after <see cref="Sense"/> of the same block; dy += du_k of tangents.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="y">What leaves the block, moved in place // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="D">Width.</param>
    public void Act(CudaStream stream, nint rows, int values, nint owners, int tangents, nint y, int layer, int D) =>
        Launch(_act, stream, rows, values, owners, tangents, y, layer, D);

    private static void Launch(CudaKernel kernel, CudaStream stream, nint rows, int values, nint owners, int tangents, nint x, int layer, int d)
    {
        if (values == 0)
        {
            return;
        }

        var p = new SteerParameters { Rows = rows, Owners = owners, X = x, Values = values, Layer = layer, D = d };
        kernel.Launch(new CudaLaunch(values + tangents, 1, 1, RowLaunch.ThreadsPerRow(d), Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SteerParameters
    {
        public nint Rows;
        public nint Owners;
        public nint X;
        public int Values;
        public int Layer;
        public int D;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SenseNormParameters
    {
        public nint Rows;
        public NormParameters Norm;
        public int Layer;
    }
}

using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The beginning of a step: rotations for RoPE, and the rows of the embedding. Kernels in embed.cu.</summary>
internal sealed class EmbedKernels
{
    private readonly CudaKernel _rotate;
    private readonly CudaKernel _embed;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public EmbedKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _rotate = kernel("tillerRotate");
        _embed = kernel("tillerEmbed");
    }

    /// <summary>For every row and table: a_e cos(t ω_e) for e &lt; E/2, then a_e sin(t ω_e), where t is the row's position.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The value rows; if there are none, nothing is launched.</param>
    /// <param name="frequencies">
    /// Tables: E/2 angles ω in radians per position, then E/2 factors a // (tables, E). If rows may belong to long sequences, as many tables for
    /// these follow.
    /// </param>
    /// <param name="tables">Number of tables for a row.</param>
    /// <param name="rotation">
    /// Result: all rows for the first table, then all rows for the next // (tables · lines, E). E is even, and lines is at least the number of rows.
    /// </param>
    public void Rotate(CudaStream stream, DeviceSpan<DeviceRow> rows, Floats frequencies, int tables, Floats rotation)
    {
        int values = (int)rows.Length, half = frequencies.Columns / 2;
        if (values == 0)
        {
            return;
        }

        int lines = rotation.Rows / tables;
        Debug.Assert(frequencies.Holds(tables, 2 * half), "frequencies // (tables, E)");
        Debug.Assert(lines >= values && rotation.Holds(tables * lines, 2 * half), "rotation // (tables · lines, E)");
        var p = new RotateParameters
        {
            Rows = rows.Address,
            Frequencies = frequencies.Address,
            Rotation = rotation.Address,
            Values = values,
            Half = half,
            Tables = tables,
            Lines = lines,
        };
        _rotate.Launch(new CudaLaunch(RowLaunch.Blocks((long)tables * values * half, 256), 1, 1, 256, Programmatic: true), stream, p);
    }

    /// <summary>x = scale · table[id] for every value row.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The value rows, with ids below V; if there are none, nothing is launched.</param>
    /// <param name="table">Embedding // (V, D).</param>
    /// <param name="scale">Factor; 1 for none.</param>
    /// <param name="x">Result // (values, D).</param>
    public void Embed(CudaStream stream, DeviceSpan<DeviceRow> rows, in Matrix table, float scale, Floats x)
    {
        int values = (int)rows.Length;
        if (values == 0)
        {
            return;
        }

        Debug.Assert(x.Holds(values, table.Columns), "x // (values, D)");
        int blocks = RowLaunch.Blocks(table.Columns, 512);
        var p = new EmbedParameters
        {
            Rows = rows.Address,
            Table = table.Address,
            X = x.Address,
            D = table.Columns,
            Type = (int)table.Type,
            BlocksPerRow = blocks,
            Scale = scale,
        };
        _embed.Launch(new CudaLaunch(checked(blocks * values), 1, 1, 128, Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RotateParameters
    {
        public nint Rows;
        public nint Frequencies;
        public nint Rotation;
        public int Values;
        public int Half;
        public int Tables;
        public int Lines;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct EmbedParameters
    {
        public nint Rows;
        public nint Table;
        public nint X;
        public int D;
        public int Type;
        public int BlocksPerRow;
        public float Scale;
    }
}

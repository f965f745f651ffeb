using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Tests.Synthesis;

/// <summary>The numbers in a golden folder that control needs: q, r, qf, and tensors of golden.safetensors as float64.</summary>
internal sealed class Golden
{
    private readonly byte[] _data;
    private readonly JsonElement _header;
    private readonly int _start;

    public Golden(string folder)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "golden.json")));
        Weights = new Tiller.Synthesis.LqrWeights(
            json.RootElement.GetProperty("q").GetDouble(), json.RootElement.GetProperty("r").GetDouble(), json.RootElement.GetProperty("qf")
                .GetDouble());
        _data = File.ReadAllBytes(Path.Combine(folder, "golden.safetensors"));
        int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(_data);
        _header = JsonDocument.Parse(_data.AsMemory(8, length)).RootElement;
        _start = 8 + length;
    }

    public Tiller.Synthesis.LqrWeights Weights { get; }

    public int[] Shape(string name) => [.. _header.GetProperty(name).GetProperty("shape").EnumerateArray().Select(x => x.GetInt32())];

    public double[] Values(string name)
    {
        var entry = _header.GetProperty(name);
        var offsets = entry.GetProperty("data_offsets");
        var bytes = _data.AsSpan(_start..)[offsets[0].GetInt32()..offsets[1].GetInt32()];
        return entry.GetProperty("dtype").GetString() switch
        {
            "F64" => MemoryMarshal.Cast<byte, double>(bytes).ToArray(),
            "F32" => Array.ConvertAll(MemoryMarshal.Cast<byte, float>(bytes).ToArray(), x => (double)x),
            var other => throw new InvalidDataException($"{name} is stored as {other}."),
        };
    }

    /// <summary>The matrices of a (L, D, D) tensor.</summary>
    public Matrix<double>[] Matrices(string name)
    {
        int[] shape = Shape(name);
        double[] values = Values(name);
        int size = shape[1] * shape[2];
        return [.. Enumerable.Range(0, shape[0])
            .Select(k => Matrix<double>.Build.DenseOfRowMajor(shape[1], shape[2], values[(k * size)..((k + 1) * size)]))];
    }

    /// <summary>The rows of a (L + 1, D) tensor.</summary>
    public float[][] Rows(string name)
    {
        int width = Shape(name)[1];
        return [.. Values(name).Chunk(width).Select(row => Array.ConvertAll(row, x => (float)x))];
    }
}

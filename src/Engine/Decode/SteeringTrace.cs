using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Law;

namespace Tiller.Decode;

/// <summary>A trace could not be written to its file.</summary>
public sealed class SteeringTraceException : TillerException
{
    internal SteeringTraceException(string path, Exception cause)
        : base($"{path}: the trace cannot be written: {cause.Message} Name a file in a writable folder with free space.", cause)
    {
        File = path;
    }

    /// <summary>The file.</summary>
    public string File { get; }
}

/// <summary>
/// Records v·x and α of every sensor and |u| of every layer for each steered token. The buffers double when full, so recording allocates nothing per
/// token once they are as large as the text.
/// </summary>
public sealed class SteeringTrace
{
    private readonly FeedbackLaw _law;
    private readonly HashSet<int> _inPlane;
    private readonly float[] _states;
    private int[] _ids;
    private int[] _positions;
    private float[] _errors;
    private float[] _projections;
    private float[] _inputNorms;

    /// <summary>Creates an empty trace.</summary>
    /// <param name="law">The law whose values are recorded.</param>
    /// <param name="capacity">Number of tokens to allocate room for.</param>
    public SteeringTrace(FeedbackLaw law, int capacity = 256)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        _law = law;
        _inPlane = [.. law.Planes.SelectMany(plane => new[] { plane.First, plane.Second })];
        _states = new float[law.Layers];
        _ids = new int[capacity];
        _positions = new int[capacity];
        _errors = new float[capacity * law.Sensors.Count];
        _projections = new float[_errors.Length];
        _inputNorms = new float[capacity * law.Layers];
    }

    /// <summary>Number of tokens recorded.</summary>
    public int Count { get; private set; }

    /// <summary>α of every sensor at token <paramref name="i"/> // (sensors).</summary>
    public ReadOnlySpan<float> Errors(int i) => _errors.AsSpan(i * _law.Sensors.Count, _law.Sensors.Count);

    /// <summary>|u| of every layer at token <paramref name="i"/> // (L).</summary>
    public ReadOnlySpan<float> InputNorms(int i) => _inputNorms.AsSpan(i * _law.Layers, _law.Layers);

    /// <summary>Id of token <paramref name="i"/>.</summary>
    public int Id(int i) => _ids[i];

    /// <summary>Position of token <paramref name="i"/>.</summary>
    public int Position(int i) => _positions[i];

    /// <summary>Records the rows of the last step.</summary>
    /// <param name="steering">The values that the law read and computed.</param>
    /// <param name="ids">Token ids of the sequence, from position 0 on.</param>
    /// <param name="positions">Positions of the steered tokens (<see cref="Session.SteeredPositions"/>).</param>
    public void Add(SteeringState steering, ReadOnlySpan<int> ids, ReadOnlySpan<int> positions)
    {
        for (int slot = 0; slot < positions.Length; slot++)
        {
            if (Count == _ids.Length)
            {
                int capacity = 2 * _ids.Length;
                Array.Resize(ref _ids, capacity);
                Array.Resize(ref _positions, capacity);
                Array.Resize(ref _errors, capacity * _law.Sensors.Count);
                Array.Resize(ref _projections, _errors.Length);
                Array.Resize(ref _inputNorms, capacity * _law.Layers);
            }

            _ids[Count] = ids[positions[slot]];
            _positions[Count] = positions[slot];
            int at = Count * _law.Sensors.Count;
            steering.ReadErrors(slot, _errors.AsSpan(at, _law.Sensors.Count));
            for (int s = 0; s < _law.Sensors.Count; s++)
            {
                // The setpoints are those of the active law, whose λ may differ from that of the first law.
                _projections[at + s] = _inPlane.Contains(s) ? float.NaN : steering.Law.Sensors[s].Projection(_errors[at + s]);
            }

            steering.ReadEffort(slot, _inputNorms.AsSpan(Count * _law.Layers, _law.Layers), _states);
            Count++;
        }
    }

    /// <summary>
    /// Writes one JSON object per token and line: <c>position</c>, <c>id</c>, <c>layers</c> (per sensor: the layer it reads), <c>projection</c> (v·x,
    /// or null where the error does not determine it: inside an interval and in a plane) and <c>error</c> (e) per sensor, <c>effort</c> (|u|) per
    /// layer. The file is written completely or not at all. Links are followed; devices and pipes are written to directly.
    /// </summary>
    /// <param name="path">The file to write or replace (see <see cref="OutputFile"/>).</param>
    /// <exception cref="SteeringTraceException">The file cannot be written. An old file of that name is unchanged.</exception>
    public void Write(string path)
    {
        try
        {
            OutputFile.Write(path, Write);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SteeringTraceException(path, e);
        }
    }

    /// <summary>Writes the lines to a stream.</summary>
    public void Write(Stream stream)
    {
        for (int i = 0; i < Count; i++)
        {
            using (var json = new Utf8JsonWriter(stream))
            {
                json.WriteStartObject();
                json.WriteNumber("position", _positions[i]);
                json.WriteNumber("id", _ids[i]);
                json.WriteStartArray("layers");
                foreach (var sensor in _law.Sensors)
                {
                    json.WriteNumberValue(sensor.Layer);
                }

                json.WriteEndArray();
                json.WriteStartArray("projection");
                for (int s = 0; s < _law.Sensors.Count; s++)
                {
                    float projection = _projections[(i * _law.Sensors.Count) + s];
                    if (float.IsNaN(projection))
                    {
                        json.WriteNullValue();
                    }
                    else
                    {
                        json.WriteNumberValue(projection);
                    }
                }

                json.WriteEndArray();
                WriteNumbers(json, "error", Errors(i));
                WriteNumbers(json, "effort", InputNorms(i));
                json.WriteEndObject();
            }

            stream.WriteByte((byte)'\n');
        }
    }

    /// <summary>Keeps the first <paramref name="count"/> tokens.</summary>
    internal void Truncate(int count) => Count = count;

    private static void WriteNumbers(Utf8JsonWriter json, string name, ReadOnlySpan<float> values)
    {
        json.WriteStartArray(name);
        foreach (float value in values)
        {
            json.WriteNumberValue(value);
        }

        json.WriteEndArray();
    }
}

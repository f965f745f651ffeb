using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Law;

namespace Tiller.Decode;

/// <summary>A trace cannot be written to its file.</summary>
public sealed class SteeringTraceException : TillerException
{
    internal SteeringTraceException(string path, Exception cause)
        : base($"{path}: the trace cannot be written: {cause.Message} Name a file in a folder with room that may be written in.", cause)
    {
        File = path;
    }

    /// <summary>The file.</summary>
    public string File { get; }
}

/// <summary>
/// Per steered token: v·x and α of every sensor, |u| of every layer. A buffer that doubles, so recording allocates nothing per token
/// once it is as large as the text.
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

    /// <summary>Starts empty.</summary>
    /// <param name="law">The law to be traced.</param>
    /// <param name="capacity">Tokens to make room for at once.</param>
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

    /// <summary>Tokens recorded.</summary>
    public int Count { get; private set; }

    /// <summary>α of every sensor at token <paramref name="i"/> // (sensors).</summary>
    public ReadOnlySpan<float> Errors(int i) => _errors.AsSpan(i * _law.Sensors.Count, _law.Sensors.Count);

    /// <summary>|u| of every layer at token <paramref name="i"/> // (L).</summary>
    public ReadOnlySpan<float> InputNorms(int i) => _inputNorms.AsSpan(i * _law.Layers, _law.Layers);

    /// <summary>Id of token <paramref name="i"/>.</summary>
    public int Id(int i) => _ids[i];

    /// <summary>Position of token <paramref name="i"/>.</summary>
    public int Position(int i) => _positions[i];

    /// <summary>Records the last step's rows.</summary>
    /// <param name="steering">What the law read and did.</param>
    /// <param name="ids">Ids of the sequence, from position 0 on.</param>
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
                // By the setpoints of the law at work, which may be of another λ than the first.
                _projections[at + s] = _inPlane.Contains(s) ? float.NaN : steering.Law.Sensors[s].Projection(_errors[at + s]);
            }

            steering.ReadEffort(slot, _inputNorms.AsSpan(Count * _law.Layers, _law.Layers), _states);
            Count++;
        }
    }

    /// <summary>
    /// Writes one JSON object per token and line: <c>position</c>, <c>id</c>, <c>layers</c> (per sensor: the layer it reads),
    /// <c>projection</c> (v·x, or null where the error does not tell it: inside an interval, and in a plane) and <c>error</c> (e) per sensor,
    /// <c>effort</c> (|u|) per layer. A file appears whole or not at all;
    /// links are followed, and what is no regular file is written through.
    /// </summary>
    /// <param name="path">File to write; replaced (see <see cref="OutputFile"/>).</param>
    /// <exception cref="SteeringTraceException">The file cannot be written; the old one, if any, is intact.</exception>
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

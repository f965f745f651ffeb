using System.Text;
using System.Text.Json;

namespace Tiller.Checkpoint;

/// <summary>A tensor entry as written in a header. Its numbers have not been checked against each other.</summary>
internal readonly record struct TensorEntry(string Name, TensorType Type, ulong[] Shape, ulong Begin, ulong End);

/// <summary>Reads the JSON of a safetensors header strictly: it rejects unknown fields, duplicates, and numbers that are not plain digits.</summary>
internal ref struct SafetensorsHeaderParser
{
    private const string MetadataKey = "__metadata__";

    // The deepest valid tokens are the numbers of {"t": {"shape": [..]}}, at depth 3.
    private const int MaxDepth = 8;

    private readonly string _file;
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);
    private readonly List<TensorEntry> _entries = [];
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private Utf8JsonReader _reader;
    private string? _tensor;

    public SafetensorsHeaderParser(ReadOnlySpan<byte> json, string file)
    {
        _file = file;
        _reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
    }

    public readonly IReadOnlyList<TensorEntry> Entries => _entries;

    public readonly IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Number of bytes of JSON read so far.</summary>
    public readonly long Position => _reader.BytesConsumed;

    public void Read()
    {
        Expect(JsonTokenType.StartObject, "an object of tensors");
        while (Next() == JsonTokenType.PropertyName)
        {
            _tensor = Name();
            if (!_names.Add(_tensor))
            {
                throw Fail(SafetensorsError.DuplicateName, "the name occurs twice.");
            }

            if (_tensor == MetadataKey)
            {
                ReadMetadata();
            }
            else
            {
                if (_entries.Count == SafetensorsHeader.MaxTensors)
                {
                    throw Fail(SafetensorsError.LimitExceeded, "too many tensors.", $"at most {SafetensorsHeader.MaxTensors}");
                }

                _entries.Add(ReadEntry(_tensor));
            }

            _tensor = null;
        }

        // The reader throws if anything but white space follows the object.
        _reader.Read();
    }

    private void ReadMetadata()
    {
        if (Next() == JsonTokenType.Null)
        {
            return;
        }

        Require(JsonTokenType.StartObject, "an object of strings, or null");
        while (Next() == JsonTokenType.PropertyName)
        {
            string key = Name();
            Next();
            Require(JsonTokenType.String, $"a string for {Quoted.Text(key)}");
            if (!_metadata.TryAdd(key, _reader.GetString()!))
            {
                throw Fail(SafetensorsError.DuplicateName, $"the metadata key {Quoted.Text(key)} occurs twice.");
            }
        }
    }

    private TensorEntry ReadEntry(string name)
    {
        Expect(JsonTokenType.StartObject, "an object with dtype, shape and data_offsets");
        TensorType? type = null;
        ulong[]? shape = null;
        ulong[]? offsets = null;
        while (Next() == JsonTokenType.PropertyName)
        {
            bool twice;
            if (_reader.ValueTextEquals("dtype"u8))
            {
                twice = type is not null;
                type = ReadType();
            }
            else if (_reader.ValueTextEquals("shape"u8))
            {
                twice = shape is not null;
                shape = ReadNumbers("shape", SafetensorsHeader.MaxRank, SafetensorsError.LimitExceeded);
            }
            else if (_reader.ValueTextEquals("data_offsets"u8))
            {
                twice = offsets is not null;
                offsets = ReadNumbers("data_offsets", 2, SafetensorsError.InvalidJson);
            }
            else
            {
                throw Fail(SafetensorsError.UnknownField, "the entry has an unknown field.", "dtype, shape and data_offsets", Quoted.Text(Name()));
            }

            if (twice)
            {
                throw Fail(SafetensorsError.DuplicateName, "a field of the entry occurs twice.");
            }
        }

        if (type is null || shape is null || offsets is null)
        {
            string missing = type is null ? "dtype" : shape is null ? "shape" : "data_offsets";
            throw Fail(SafetensorsError.InvalidJson, $"the entry has no {missing}.");
        }

        if (offsets.Length != 2)
        {
            throw Fail(SafetensorsError.InvalidJson, "data_offsets is malformed.", "[begin, end]", $"{offsets.Length} numbers");
        }

        return new TensorEntry(name, type.Value, shape, offsets[0], offsets[1]);
    }

    private TensorType ReadType()
    {
        JsonTokenType token = Next();
        if (token is JsonTokenType.StartObject or JsonTokenType.StartArray)
        {
            throw Fail(SafetensorsError.InvalidJson, "dtype is malformed.", "a string", token.ToString());
        }

        string text = token == JsonTokenType.String ? _reader.GetString()! : Encoding.UTF8.GetString(_reader.ValueSpan);
        return token == JsonTokenType.String && TensorTypes.TryParse(text, out TensorType type)
            ? type
            : throw Fail(SafetensorsError.UnsupportedType, "the format has no such dtype.", "one such as F32, F16 or BF16", Quoted.Text(text));
    }

    private ulong[] ReadNumbers(string field, int most, SafetensorsError tooMany)
    {
        Expect(JsonTokenType.StartArray, $"an array of whole numbers for {field}");
        Span<ulong> numbers = stackalloc ulong[SafetensorsHeader.MaxRank];
        int count = 0;
        while (Next() != JsonTokenType.EndArray)
        {
            ulong value = ReadNumber(field);
            if (count == most)
            {
                throw Fail(tooMany, $"{field} has too many numbers.", $"at most {most}");
            }

            numbers[count++] = value;
        }

        return numbers[..count].ToArray();
    }

    // Only digits are allowed: -0, 1.0 and 1e2 are JSON numbers but not valid sizes.
    private readonly ulong ReadNumber(string field)
    {
        ulong value = 0;
        bool digits = _reader.TokenType == JsonTokenType.Number;
        if (digits)
        {
            foreach (byte b in _reader.ValueSpan)
            {
                uint digit = (uint)(b - '0');
                digits = digit <= 9 && value <= (ulong.MaxValue - digit) / 10;
                if (!digits)
                {
                    break;
                }

                value = (value * 10) + digit;
            }
        }

        return digits
            ? value
            : throw Fail(
                SafetensorsError.InvalidJson, $"{field} holds something other than a size.", "a whole number from 0 to 2^64 - 1",
                Quoted.Bare(Encoding.UTF8.GetString(_reader.ValueSpan[..Math.Min(_reader.ValueSpan.Length, 64)])));
    }

    private readonly string Name()
    {
        // An escape sequence has at most 6 bytes for one byte of UTF-8.
        if (_reader.ValueSpan.Length <= SafetensorsHeader.MaxNameLength * 6)
        {
            string name = _reader.GetString()!;
            if (Encoding.UTF8.GetByteCount(name) <= SafetensorsHeader.MaxNameLength)
            {
                return name;
            }
        }

        throw Fail(
            SafetensorsError.LimitExceeded, "a name is too long.", $"at most {SafetensorsHeader.MaxNameLength} bytes", $"{_reader.ValueSpan.Length}");
    }

    private JsonTokenType Next() => _reader.Read() ? _reader.TokenType : throw new JsonException("The text ends too early.");

    private void Expect(JsonTokenType token, string what)
    {
        Next();
        Require(token, what);
    }

    private readonly void Require(JsonTokenType token, string what)
    {
        if (_reader.TokenType != token)
        {
            throw Fail(SafetensorsError.InvalidJson, "the header has the wrong form.", what, _reader.TokenType.ToString());
        }
    }

    private readonly SafetensorsException Fail(SafetensorsError error, string message, string? expected = null, string? actual = null)
        => new(error, _file, message, _tensor, SafetensorsHeader.PrefixLength + _reader.TokenStartIndex, expected, actual);
}

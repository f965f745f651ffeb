using System.Buffers;
using System.Globalization;

namespace Tiller.Jinja;

/// <summary>Python's json.dumps as the tojson filter of transformers calls it: without escaping for HTML.</summary>
internal static class JsonText
{
    public static Text Write(JinjaValue value, bool ascii, JinjaValue? indent, JinjaValue? separators, bool sortKeys, Run run)
    {
        string? step = indent switch
        {
            null or NoneValue => null,
            Text text => text.Value,
            _ => new string(' ', Bounded(Math.Max(Indexes.Integer(indent), 0), run)),
        };
        string between = step is null ? ", " : ",";
        string colon = ": ";
        if (separators is not (null or NoneValue))
        {
            JinjaValue[] pair = separators.ToArray(run);
            if (pair is not [Text first, Text second])
            {
                throw JinjaException.Type("separators of tojson have to be two strings");
            }

            (between, colon) = (first.Value, second.Value);
        }

        bool content = value.HasContent || separators?.HasContent == true || indent is Text { HasContent: true };
        var writer = new Writer(new TextBuilder(run), ascii, step, between, colon, sortKeys, content);
        writer.Value(value, 0);
        return writer.Text.ToText();
    }

    private static int Bounded(int width, Run run)
    {
        run.ChargeText(width);
        return width;
    }

    private static readonly SearchValues<char> s_escaped = SearchValues.Create([.. Enumerable.Range(0, ' ').Select(static c => (char)c), '"', '\\']);

    private static readonly SearchValues<char> s_plainAscii =
        SearchValues.Create([.. Enumerable.Range(' ', 0x80 - ' ').Select(static c => (char)c).Except(['"', '\\'])]);

    private sealed class Writer(TextBuilder text, bool ascii, string? step, string between, string colon, bool sortKeys, bool content)
    {
        public TextBuilder Text => text;

        public void Value(JinjaValue value, int depth)
        {
            switch (value)
            {
                case NoneValue:
                    text.Append("null", content);
                    break;
                case Bool truth:
                    text.Append(truth.Value ? "true" : "false", content);
                    break;
                case Int:
                    value.Repr(text, content);
                    break;
                case Float real:
                    text.Append(Real(real.Value), content);
                    break;
                case Text part:
                    String(part.Span);
                    break;
                case Sequence list:
                    Open('[');
                    for (int i = 0; i < list.Values.Length; i++)
                    {
                        Next(i, depth + 1);
                        Value(list.Values[i], depth + 1);
                    }

                    Close(']', list.Values.Length, depth);
                    break;
                case MapValue map:
                    Open('{');
                    int[]? order = sortKeys ? Sorted(map) : null;
                    for (int i = 0; i < map.Count; i++)
                    {
                        int at = order?[i] ?? i;
                        Next(i, depth + 1);
                        Key(map.KeyAt(at));
                        text.Append(colon, content);
                        Value(map.At(at), depth + 1);
                    }

                    Close('}', map.Count, depth);
                    break;
                default:
                    throw JinjaException.Type($"Object of type {value.TypeName} is not JSON serializable");
            }
        }

        private static string Real(double value) => double.IsNaN(value) ? "NaN" : double.IsPositiveInfinity(value) ? "Infinity"
            : double.IsNegativeInfinity(value) ? "-Infinity" : PythonNumber.Repr(value);

        private int[] Sorted(MapValue map)
        {
            int[] order = [.. Enumerable.Range(0, map.Count)];
            return Sorting.Sort(order, (a, b) => Comparison.Less(map.KeyAt(a), map.KeyAt(b), text.Run), text.Run);
        }

        private void Open(char bracket)
        {
            text.Run.Enter();
            text.Append(bracket, content);
        }

        private void Next(int i, int depth)
        {
            if (i > 0)
            {
                text.Append(between, content);
            }

            NewLine(depth);
        }

        private void Close(char bracket, int items, int depth)
        {
            if (items > 0)
            {
                NewLine(depth);
            }

            text.Append(bracket, content);
            text.Run.Leave();
        }

        private void NewLine(int depth)
        {
            if (step is null)
            {
                return;
            }

            text.Append('\n', content);
            for (int i = 0; i < depth; i++)
            {
                text.Append(step, content);
            }
        }

        private void Key(JinjaValue key)
        {
            switch (key)
            {
                case Text name:
                    String(name.Span);
                    break;
                case NoneValue or Bool or Int or Float:
                    text.Append('"', content);
                    Value(key, 0);
                    text.Append('"', content);
                    break;
                default:
                    throw JinjaException.Type($"keys must be str, int, float, bool or None, not {key.TypeName}");
            }
        }

        private void String(ReadOnlySpan<char> value)
        {
            text.Append('"', content);
            for (int plain = Plain(value); plain < value.Length; plain = Plain(value))
            {
                text.Append(value[..plain], content);
                text.Append(Escape(value[plain]), content);
                value = value[(plain + 1)..];
            }

            text.Append(value, content);
            text.Append('"', content);
        }

        // Number of characters that stand for themselves.
        private int Plain(ReadOnlySpan<char> rest)
        {
            int at = ascii ? rest.IndexOfAnyExcept(s_plainAscii) : rest.IndexOfAny(s_escaped);
            return at < 0 ? rest.Length : at;
        }

        private static string Escape(char c) => c switch
        {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\b' => "\\b",
            '\f' => "\\f",
            _ => "\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture),
        };
    }
}

/// <summary>A stable merge sort. Its comparisons are counted as steps and may throw.</summary>
internal static class Sorting
{
    public static T[] Sort<T>(T[] items, Func<T, T, bool> less, Run run)
    {
        T[] from = items;
        T[] to = new T[items.Length];
        for (int width = 1; width < items.Length; width *= 2)
        {
            for (int start = 0; start < items.Length; start += 2 * width)
            {
                int middle = Math.Min(start + width, items.Length);
                int end = Math.Min(start + (2 * width), items.Length);
                for (int i = start, j = middle, k = start; k < end; k++)
                {
                    run.Charge(1);
                    bool right = i >= middle || (j < end && less(from[j], from[i]));
                    to[k] = right ? from[j++] : from[i++];
                }
            }

            (from, to) = (to, from);
        }

        return from;
    }
}

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
                    String(part.Value);
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
                    int[] order = sortKeys ? Sorted(map) : [.. Enumerable.Range(0, map.Count)];
                    for (int i = 0; i < order.Length; i++)
                    {
                        Next(i, depth + 1);
                        Key(map.KeyAt(order[i]));
                        text.Append(colon, content);
                        Value(map.At(order[i]), depth + 1);
                    }

                    Close('}', order.Length, depth);
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
                    String(name.Value);
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

        private void String(string value)
        {
            text.Append('"', content);
            int plain = 0;
            for (int i = 0; i < value.Length; i++)
            {
                char c = value[i];
                string? escape = c switch
                {
                    '"' => "\\\"",
                    '\\' => "\\\\",
                    '\n' => "\\n",
                    '\r' => "\\r",
                    '\t' => "\\t",
                    '\b' => "\\b",
                    '\f' => "\\f",
                    < ' ' => "\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture),
                    > '~' when ascii => c == '\u007f' ? null : "\\u" + ((int)c).ToString("x4", CultureInfo.InvariantCulture),
                    _ => null,
                };
                if (escape is not null)
                {
                    text.Append(value.AsSpan(plain, i - plain), content);
                    text.Append(escape, content);
                    plain = i + 1;
                }
            }

            text.Append(value.AsSpan(plain), content);
            text.Append('"', content);
        }
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

using System.Collections.Frozen;
using System.Text;

namespace Tiller.Jinja;

/// <summary>Methods of Python's str. Methods that only cut and join keep the origin of every character; the result of any other is all content
/// if any character of the text was.</summary>
internal static class TextMethods
{
    // Up to this number of characters, a search in them is faster than a hash table.
    private const int FewChars = 8;

    private static readonly FrozenDictionary<string, Method> s_methods = new Dictionary<string, Method>(StringComparer.Ordinal)
    {
        ["capitalize"] = Mapped("capitalize", PythonCase.Capitalize),
        ["casefold"] = Mapped("casefold", PythonCase.Fold),
        ["lower"] = Mapped("lower", PythonCase.ToLower),
        ["swapcase"] = Mapped("swapcase", PythonCase.Swap),
        ["title"] = Mapped("title", PythonCase.ToTitle),
        ["upper"] = Mapped("upper", PythonCase.ToUpper),
        ["isalnum"] = All("isalnum", PythonChars.IsAlnum),
        ["isalpha"] = All("isalpha", PythonChars.IsAlpha),
        ["isascii"] = All("isascii", static rune => rune.IsAscii, empty: true),
        ["isdecimal"] = All("isdecimal", static rune => PythonChars.DecimalDigit(rune) >= 0),
        ["isdigit"] = All("isdigit", PythonChars.IsDigit),
        ["isnumeric"] = All("isnumeric", PythonChars.IsNumeric),
        ["isprintable"] = All("isprintable", PythonChars.IsPrintable, empty: true),
        ["isspace"] = All("isspace", static rune => rune.IsBmp && PythonChars.IsSpace((char)rune.Value)),
        ["isidentifier"] = Asked("isidentifier", IsIdentifier),
        ["islower"] = Asked("islower", IsLower),
        ["isupper"] = Asked("isupper", IsUpper),
        ["istitle"] = Asked("istitle", IsTitle),
        ["strip"] = Stripped("strip", true, true),
        ["lstrip"] = Stripped("lstrip", true, false),
        ["rstrip"] = Stripped("rstrip", false, true),
        ["split"] = static (self, arguments, run) => Split((Text)self, arguments, "split", fromEnd: false, run),
        ["rsplit"] = static (self, arguments, run) => Split((Text)self, arguments, "rsplit", fromEnd: true, run),
        ["splitlines"] = static (self, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Bind("splitlines", 0, "keepends");
            return new ListValue([.. Lines((Text)self, given[0]?.IsTrue(run) == true, run)]);
        },
        ["partition"] = static (self, arguments, run) => Partition((Text)self, arguments, "partition", last: false, run),
        ["rpartition"] = static (self, arguments, run) => Partition((Text)self, arguments, "rpartition", last: true, run),
        ["startswith"] = static (self, arguments, run) => Affix((Text)self, arguments, "startswith", run),
        ["endswith"] = static (self, arguments, run) => Affix((Text)self, arguments, "endswith", run),
        ["removeprefix"] = static (self, arguments, run) => Removed((Text)self, arguments, "removeprefix", run),
        ["removesuffix"] = static (self, arguments, run) => Removed((Text)self, arguments, "removesuffix", run),
        ["find"] = static (self, arguments, run) => Int.Of(Find((Text)self, arguments, "find", last: false, run)),
        ["rfind"] = static (self, arguments, run) => Int.Of(Find((Text)self, arguments, "rfind", last: true, run)),
        ["index"] = static (self, arguments, run) => Int.Of(Found(Find((Text)self, arguments, "index", last: false, run))),
        ["rindex"] = static (self, arguments, run) => Int.Of(Found(Find((Text)self, arguments, "rindex", last: true, run))),
        ["count"] = static (self, arguments, run) => Count((Text)self, arguments, run),
        ["replace"] = static (self, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Positional("replace", 2, 3);
            var text = (Text)self;
            Text old = One("replace", given[0]!);
            Text fresh = One("replace", given[1]!);
            return Replace(text, text.IsSafe ? Html.Escape(old, run) : old, text.IsSafe ? Html.Escape(fresh, run) : fresh, given[2] is null ? -1
                : Indexes.Integer(given[2]!), run);
        },
        ["join"] = static (self, arguments, run) => Join((Text)self, arguments.Positional("join", 1, 1)[0]!, run),
        ["format"] = static (self, arguments, run) => BraceFormat.Format((Text)self, arguments, run),
        ["format_map"] = static (self, arguments, run) =>
        {
            MapValue map = arguments.Positional("format_map", 1, 1)[0] as MapValue ?? throw JinjaException.Type("format_map() takes a mapping");
            run.Charge(map.Count);
            return BraceFormat.Format((Text)self, new Arguments([], [.. Enumerable.Range(0, map.Count).Where(i => map.KeyAt(i) is Text)
                .Select(i => KeyValuePair.Create(((Text)map.KeyAt(i)).Value, map.At(i)))]), run);
        },
        ["center"] = static (self, arguments, run) => Padded((Text)self, arguments, "center", run),
        ["ljust"] = static (self, arguments, run) => Padded((Text)self, arguments, "ljust", run),
        ["rjust"] = static (self, arguments, run) => Padded((Text)self, arguments, "rjust", run),
        ["zfill"] = static (self, arguments, run) => ZeroFilled((Text)self, Indexes.Width(arguments.Positional("zfill", 1, 1)[0]!), run),
        ["expandtabs"] = static (self, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Bind("expandtabs", 0, "tabsize");
            return ExpandTabs((Text)self, given[0] is null ? 8 : Indexes.Integer(given[0]!), run);
        },
        ["encode"] = static (_, _, _) => throw new JinjaException(JinjaError.Unsupported,
            "str.encode() gives bytes, a type that is not implemented."),
        ["maketrans"] = static (_, _, _) => throw new JinjaException(JinjaError.Unsupported, "str.maketrans() is not implemented."),
        ["translate"] = static (self, arguments, run) => Translate((Text)self, arguments, run),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static Method? Find(string name) => s_methods.GetValueOrDefault(name);

    public static Text Strip(Text text, JinjaValue? chars, bool start, bool end, Run run)
    {
        run.ChargeText(text.Length);
        ReadOnlySpan<char> value = text.Span;
        int from = 0;
        int to = value.Length;
        if (chars is null or NoneValue)
        {
            while (start && from < to && PythonChars.IsSpace(value[from]))
            {
                from++;
            }

            while (end && to > from && PythonChars.IsSpace(value[to - 1]))
            {
                to--;
            }

            return text.Slice(from, to - from);
        }

        if (chars is not Text set)
        {
            throw JinjaException.Type("strip arg must be None or str");
        }

        if (set.Length <= FewChars && !set.Span.ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            while (start && from < to && set.Span.Contains(value[from]))
            {
                from++;
            }

            while (end && to > from && set.Span.Contains(value[to - 1]))
            {
                to--;
            }

            return text.Slice(from, to - from);
        }

        var known = set.Value.EnumerateRunes().ToHashSet();
        while (start && from < to && Rune.TryGetRuneAt(text.Value, from, out Rune rune) && known.Contains(rune))
        {
            from += rune.Utf16SequenceLength;
        }

        while (end && to > from && Rune.DecodeLastFromUtf16(value[from..to], out Rune rune,
            out int units) == System.Buffers.OperationStatus.Done && known.Contains(rune))
        {
            to -= units;
        }

        return text.Slice(from, to - from);
    }

    public static Text Replace(Text text, Text old, Text fresh, int count, Run run)
    {
        run.ChargeSearch(text.Length, old.Length);
        bool content = text.HasContent || fresh.HasContent;
        string value = text.Value;
        var replaced = new TextBuilder(run);
        int at = 0;
        if (old.Length == 0)
        {
            while (count != 0 && at <= value.Length)
            {
                replaced.Append(fresh.Value, content);
                int units = at < value.Length ? text.UnitsAt(at) : 0;
                replaced.Append(value.AsSpan(at, units), content);
                at += Math.Max(units, 1);
                count--;
            }
        }
        else
        {
            while (count != 0 && value.IndexOf(old.Value, at, StringComparison.Ordinal) is >= 0 and int found)
            {
                replaced.Append(value.AsSpan(at, found - at), content);
                replaced.Append(fresh.Value, content);
                at = found + old.Length;
                count--;
            }
        }

        if (at < value.Length)
        {
            replaced.Append(value.AsSpan(at), content);
        }

        return replaced.ToText(text.IsSafe);
    }

    /// <summary>splitlines().</summary>
    public static IEnumerable<Text> Lines(Text text, bool keepEnds, Run run)
    {
        run.ChargeText(text.Length);
        string value = text.Value;
        int start = 0;
        while (start < value.Length)
        {
            int end = start;
            while (end < value.Length && !PythonChars.IsLineEnd(value[end]))
            {
                end++;
            }

            int next = end == value.Length ? end : value[end] == '\r' && end + 1 < value.Length && value[end + 1] == '\n' ? end + 2 : end + 1;
            run.Charge(1);
            yield return text.Slice(start, (keepEnds ? next : end) - start);
            start = next;
        }
    }

    public static Text Join(Text separator, JinjaValue items, Run run)
    {
        var joined = new TextBuilder(run);
        bool first = true;
        using IEnumerator<JinjaValue> each = items.Iterate(run) ?? throw JinjaException.Type("can only join an iterable");
        while (each.MoveNext())
        {
            run.Charge(1);
            if (!first)
            {
                joined.Append(separator);
            }

            first = false;
            joined.Append(separator.IsSafe ? Html.Escape(each.Current, run)
                : each.Current as Text ?? throw JinjaException.Type($"sequence item: expected str instance, {each.Current.TypeName} found"));
        }

        return joined.ToText(separator.IsSafe);
    }

    public static Text Pad(Text text, int width, char fill, bool fillContent, int left, Run run)
    {
        int missing = width - text.Points;
        if (missing <= 0)
        {
            return text;
        }

        var padded = new TextBuilder(run);
        padded.Append(fill, Math.Min(left, missing), fillContent);
        padded.Append(text);
        padded.Append(fill, missing - Math.Min(left, missing), fillContent);
        return padded.ToText(text.IsSafe);
    }

    /// <summary>Number of padding characters that str.center() puts on the left.</summary>
    public static int LeftOfCenter(int missing, int width) => (missing / 2) + (missing & width & 1);

    /// <summary>str.islower().</summary>
    public static bool IsLower(string text)
    {
        bool any = false;
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (PythonChars.IsUpper(rune) || PythonChars.IsTitle(rune))
            {
                return false;
            }

            any |= PythonChars.IsLower(rune);
        }

        return any;
    }

    /// <summary>str.isupper().</summary>
    public static bool IsUpper(string text)
    {
        bool any = false;
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (PythonChars.IsLower(rune) || PythonChars.IsTitle(rune))
            {
                return false;
            }

            any |= PythonChars.IsUpper(rune);
        }

        return any;
    }

    private static bool IsTitle(string text)
    {
        bool any = false;
        bool afterCased = false;
        foreach (Rune rune in text.EnumerateRunes())
        {
            bool upper = PythonChars.IsUpper(rune) || PythonChars.IsTitle(rune);
            bool lower = PythonChars.IsLower(rune);
            if ((upper && afterCased) || (lower && !afterCased))
            {
                return false;
            }

            afterCased = upper || lower;
            any |= afterCased;
        }

        return any;
    }

    private static bool IsIdentifier(string text)
    {
        bool first = true;
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (first ? !PythonChars.IsIdentifierStart(rune) : !PythonChars.IsIdentifierPart(rune))
            {
                return false;
            }

            first = false;
        }

        return !first;
    }

    private static Method Mapped(string name, Func<string, string> map) => (self, arguments, run) =>
    {
        arguments.Positional(name, 0, 0);
        var text = (Text)self;
        run.Charge(text.Length);
        return text.Lost(map(text.Value), run);
    };

    private static Method Asked(string name, Func<string, bool> ask) => (self, arguments, run) =>
    {
        arguments.Positional(name, 0, 0);
        run.Charge(((Text)self).Length);
        return Bool.Of(ask(((Text)self).Value));
    };

    private static Method All(string name, Func<Rune, bool> holds, bool empty = false) => Asked(name, text =>
    {
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (!holds(rune))
            {
                return false;
            }
        }

        return empty || text.Length > 0;
    });

    private static Method Stripped(string name, bool start, bool end) => (self, arguments, run) =>
        Strip((Text)self, arguments.Positional(name, 0, 1)[0], start, end, run);

    private static Text One(string function, JinjaValue value)
    {
        return value switch
        {
            Text text => text,
            _ => throw JinjaException.Type($"{function}() argument must be str, not {value.TypeName}"),
        };
    }

    private static ListValue Split(Text text, Arguments arguments, string name, bool fromEnd, Run run)
    {
        JinjaValue?[] given = arguments.Bind(name, 0, "sep", "maxsplit");
        int most = given[1] is null ? -1 : Indexes.Integer(given[1]!);
        most = most < 0 ? int.MaxValue : most;
        run.ChargeText(text.Length);
        if (given[0] is not (null or NoneValue))
        {
            return new ListValue(SplitAt(text, One(name, given[0]!), most, fromEnd, run));
        }

        List<Text> parts = fromEnd ? SpaceSplitFromEnd(text, most, run) : SpaceSplit(text, most, run);
        if (fromEnd)
        {
            parts.Reverse();
        }

        return new ListValue([.. parts]);
    }

    private static JinjaValue[] SplitAt(Text text, Text separator, int most, bool fromEnd, Run run)
    {
        ReadOnlySpan<char> value = text.Span;
        ReadOnlySpan<char> cut = separator.Length > 0 ? separator.Span : throw JinjaException.Value("empty separator");
        run.ChargeSearch(value.Length, cut.Length);
        int cuts = Math.Min(most, value.Count(cut)); // places of separators do not overlap
        run.Charge(cuts);
        var parts = new JinjaValue[cuts + 1];
        if (fromEnd)
        {
            int end = value.Length;
            for (int i = cuts; i > 0; i--)
            {
                int at = value[..end].LastIndexOf(cut);
                parts[i] = text.Slice(at + cut.Length, end - at - cut.Length);
                end = at;
            }

            parts[0] = text.Slice(0, end);
            return parts;
        }

        int start = 0;
        for (int i = 0; i < cuts; i++)
        {
            int at = start + value[start..].IndexOf(cut);
            parts[i] = text.Slice(start, at - start);
            start = at + cut.Length;
        }

        parts[cuts] = text.Slice(start, value.Length - start);
        return parts;
    }

    private static List<Text> SpaceSplit(Text text, int most, Run run)
    {
        string value = text.Value;
        var parts = new List<Text>();
        int i = 0;
        while (true)
        {
            while (i < value.Length && PythonChars.IsSpace(value[i]))
            {
                i++;
            }

            if (i == value.Length)
            {
                return parts;
            }

            int start = i;
            if (most-- == 0)
            {
                parts.Add(text.Slice(start, value.Length - start));
                return parts;
            }

            while (i < value.Length && !PythonChars.IsSpace(value[i]))
            {
                i++;
            }

            run.Charge(1);
            parts.Add(text.Slice(start, i - start));
        }
    }

    private static List<Text> SpaceSplitFromEnd(Text text, int most, Run run)
    {
        string value = text.Value;
        var parts = new List<Text>();
        int i = value.Length;
        while (true)
        {
            while (i > 0 && PythonChars.IsSpace(value[i - 1]))
            {
                i--;
            }

            if (i == 0)
            {
                return parts;
            }

            int end = i;
            if (most-- == 0)
            {
                parts.Add(text.Slice(0, end));
                return parts;
            }

            while (i > 0 && !PythonChars.IsSpace(value[i - 1]))
            {
                i--;
            }

            run.Charge(1);
            parts.Add(text.Slice(i, end - i));
        }
    }

    private static TupleValue Partition(Text text, Arguments arguments, string name, bool last, Run run)
    {
        Text separator = One(name, arguments.Positional(name, 1, 1)[0]!);
        if (separator.Length == 0)
        {
            throw JinjaException.Value("empty separator");
        }

        run.ChargeSearch(text.Length, separator.Length);
        int at = last ? text.Value.LastIndexOf(separator.Value, StringComparison.Ordinal)
            : text.Value.IndexOf(separator.Value, StringComparison.Ordinal);
        if (at < 0)
        {
            Text empty = Text.Of("", safe: text.IsSafe);
            return new TupleValue(last ? [empty, empty, text] : [text, empty, empty]);
        }

        int end = at + separator.Length;
        return new TupleValue([text.Slice(0, at), text.Slice(at, end - at), text.Slice(end, text.Length - end)]);
    }

    private static Bool Affix(Text text, Arguments arguments, string name, Run run)
    {
        JinjaValue?[] given = arguments.Positional(name, 1, 3);
        if (Within(text, given[1], given[2]) is not var (start, end))
        {
            return Bool.False;
        }

        ReadOnlySpan<char> part = start <= end ? text.Span[start..end] : [];
        bool outside = start > end;
        JinjaValue[] options = given[0] is TupleValue tuple ? tuple.Values : [given[0]!];
        foreach (JinjaValue option in options)
        {
            run.Charge(1);
            ReadOnlySpan<char> affix = One(name, option).Span;
            if (!outside && (name == "startswith" ? part.StartsWith(affix) : part.EndsWith(affix)))
            {
                return Bool.True;
            }
        }

        return Bool.False;
    }

    private static Text Removed(Text text, Arguments arguments, string name, Run run)
    {
        ReadOnlySpan<char> affix = One(name, arguments.Positional(name, 1, 1)[0]!).Span;
        run.ChargeText(text.Length);
        bool prefix = name == "removeprefix";
        bool there = affix.Length > 0 && (prefix ? text.Span.StartsWith(affix) : text.Span.EndsWith(affix));
        return !there ? text : text.Slice(prefix ? affix.Length : 0, text.Length - affix.Length);
    }

    // UTF-16 range between two optional indices; null if it begins after the end of the text.
    private static (int Start, int End)? Within(Text text, JinjaValue? start, JinjaValue? end)
    {
        int length = text.Points;
        long from = Bound(start) ?? 0;
        long to = Bound(end) ?? length;
        to = to > length ? length : to < 0 ? Math.Max(to + length, 0) : to;
        from = from < 0 ? Math.Max(from + length, 0) : from;
        return from > length ? null : (text.UnitOf((int)from), text.UnitOf((int)to));
    }

    private static long? Bound(JinjaValue? value)
    {
        return value is null or NoneValue ? null
            : Indexes.TryInteger(value, out long index) ? index
            : throw JinjaException.Type("slice indices must be integers or None or have an __index__ method");
    }

    private static int Find(Text text, Arguments arguments, string name, bool last, Run run)
    {
        JinjaValue?[] given = arguments.Positional(name, 1, 3);
        string part = One(name, given[0]!).Value;
        run.ChargeSearch(text.Length, part.Length);
        if (Within(text, given[1], given[2]) is not var (start, end) || start > end)
        {
            return -1;
        }

        ReadOnlySpan<char> within = text.Value.AsSpan(start, end - start);
        int found = part.Length == 0 ? last ? within.Length : 0 : last ? within.LastIndexOf(part) : within.IndexOf(part);
        return found < 0 ? -1 : text.PointOf(start + found);
    }

    private static int Found(int at) => at >= 0 ? at : throw JinjaException.Value("substring not found");

    private static Int Count(Text text, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Positional("count", 1, 3);
        string part = One("count", given[0]!).Value;
        run.ChargeSearch(text.Length, part.Length);
        if (Within(text, given[1], given[2]) is not var (start, end) || start > end)
        {
            return Int.Of(0);
        }

        return Int.Of(part.Length == 0 ? text.PointOf(end) - text.PointOf(start) + 1 : text.Value.AsSpan(start, end - start).Count(part));
    }

    private static Text Padded(Text text, Arguments arguments, string name, Run run)
    {
        JinjaValue?[] given = arguments.Positional(name, 1, 2);
        int width = Indexes.Width(given[0]!);
        Text fill = given[1] is null ? Text.Of(" ") : One(name, given[1]!);
        if (fill.Points != 1 || fill.Length != 1)
        {
            throw JinjaException.Type("The fill character must be exactly one character long");
        }

        int missing = width - text.Points;
        return Pad(text, width, fill.Value[0], fill.HasContent, name switch { "center" => LeftOfCenter(missing, width), "rjust" => missing, _ => 0 },
            run);
    }

    private static Text ZeroFilled(Text text, int width, Run run)
    {
        int missing = width - text.Points;
        if (missing <= 0)
        {
            return text;
        }

        int sign = text.Length > 0 && text.Value[0] is '+' or '-' ? 1 : 0;
        var filled = new TextBuilder(run);
        filled.Append(text, 0, sign);
        filled.Append('0', missing, content: false);
        filled.Append(text, sign, text.Length - sign);
        return filled.ToText(text.IsSafe);
    }

    private static Text ExpandTabs(Text text, int size, Run run)
    {
        var expanded = new TextBuilder(run);
        int column = 0;
        for (int i = 0; i < text.Length;)
        {
            int units = text.UnitsAt(i);
            if (text.Value[i] == '\t')
            {
                int spaces = size > 0 ? size - (column % size) : 0;
                expanded.Append(' ', spaces, text.IsContentAt(i));
                column += spaces;
            }
            else
            {
                expanded.Append(text, i, units);
                column = text.Value[i] is '\n' or '\r' ? 0 : column + 1;
            }

            i += units;
        }

        return expanded.ToText(text.IsSafe);
    }

    private static Text Translate(Text text, Arguments arguments, Run run)
    {
        JinjaValue table = arguments.Positional("translate", 1, 1)[0]!;
        var translated = new TextBuilder(run);
        foreach (Rune rune in text.Value.EnumerateRunes())
        {
            run.Charge(1);
            switch (table.Item(Int.Of(rune.Value), run))
            {
                case null:
                    translated.Append(rune.ToString(), text.HasContent);
                    break;
                case NoneValue:
                    break;
                case Text by:
                    translated.Append(by.Value, text.HasContent || by.HasContent);
                    break;
                case { } number when Indexes.TryInteger(number, out long code) && code is >= 0 and <= 0x10FFFF && Rune.IsValid((int)code):
                    translated.Append(new Rune((int)code).ToString(), text.HasContent || number.HasContent);
                    break;
                default:
                    throw JinjaException.Type("character mapping must return integer, None or str");
            }
        }

        return translated.ToText(text.IsSafe);
    }
}

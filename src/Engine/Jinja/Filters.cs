using System.Buffers;
using System.Collections.Frozen;
using System.Numerics;
using System.Text;

namespace Tiller.Jinja;

/// <summary>The filters of Jinja by name, with tojson as in transformers.</summary>
internal static partial class Filters
{
    private static readonly FrozenDictionary<string, Method> s_all = new Dictionary<string, Method>(StringComparer.Ordinal)
    {
        ["abs"] = static (value, arguments, _) =>
        {
            arguments.Positional("abs", 0, 0);
            return value is Float real ? new Float(Math.Abs(real.Value), real.HasContent)
                : Arithmetic.TryInt(value, out Int number) ? number.Sign < 0 ? Arithmetic.Negate(number) : number
                : throw JinjaException.Type($"bad operand type for abs(): '{value.TypeName}'");
        },
        ["attr"] = static (value, arguments, run) =>
        {
            JinjaValue name = arguments.Bind("attr", 1, "name")[0]!;
            return name is Text text ? Sandbox.Visible(value, text.Value, run) ?? Undefined.Member(value, name)
                : throw JinjaException.Type("attribute name must be string");
        },
        ["batch"] = Batch,
        ["capitalize"] = Lost("capitalize", PythonCase.Capitalize),
        ["center"] = static (value, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Bind("center", 0, "width");
            Text text = value.ToText(run);
            int width = given[0] is null ? 80 : Indexes.Width(given[0]!);
            return TextMethods.Pad(text, width, ' ', fillContent: false, TextMethods.LeftOfCenter(width - text.Points, width), run);
        },
        ["count"] = Length,
        ["d"] = Default,
        ["default"] = Default,
        ["dictsort"] = DictSort,
        ["e"] = Escape,
        ["escape"] = Escape,
        ["filesizeformat"] = FileSize,
        ["first"] = static (value, arguments, run) =>
        {
            arguments.Positional("first", 0, 0);
            using IEnumerator<JinjaValue> items = value.Items(run);
            return items.MoveNext() ? items.Current : new Undefined("No first item, sequence was empty.");
        },
        ["float"] = static (value, arguments, run) =>
        {
            run.Charge(value.Weight);
            JinjaValue?[] given = arguments.Bind("float", 0, "default");
            return ToFloat(value) is { } real ? new Float(real, value.HasContent) : given[0] ?? new Float(0);
        },
        ["forceescape"] = static (value, arguments, run) =>
        {
            arguments.Positional("forceescape", 0, 0);
            return Html.Escape(value.ToText(run).AsSafe(false), run);
        },
        ["format"] = static (value, arguments, run) =>
        {
            if (arguments.Values.Length > 0 && arguments.Named.Length > 0)
            {
                throw JinjaException.Runtime("can't handle positional and keyword arguments at the same time");
            }

            var map = new MapBuilder(run);
            foreach ((string name, JinjaValue argument) in arguments.Named)
            {
                map.Set(Text.Of(name), argument);
            }

            return PercentFormat.Format(value.ToText(run), arguments.Named.Length > 0 ? map.ToMap() : new TupleValue(arguments.Values), run);
        },
        ["groupby"] = GroupBy,
        ["indent"] = Indent,
        ["int"] = ToInt,
        ["items"] = static (value, arguments, run) =>
        {
            arguments.Positional("items", 0, 0);
            return new Generator(Items(value, run));
        },
        ["join"] = Join,
        ["last"] = static (value, arguments, run) =>
        {
            arguments.Positional("last", 0, 0);
            JinjaValue[] items = Reversible(value, run) ?? throw JinjaException.Type($"'{value.TypeName}' object is not reversible");
            return items.Length > 0 ? items[^1] : new Undefined("No last item, sequence was empty.");
        },
        ["length"] = Length,
        ["list"] = static (value, arguments, run) =>
        {
            arguments.Positional("list", 0, 0);
            return new ListValue(value.ToArray(run));
        },
        ["lower"] = Lost("lower", PythonCase.ToLower),
        ["map"] = static (value, arguments, run) => new Generator(Map(value, arguments, run)),
        ["max"] = static (value, arguments, run) => Extreme(value, arguments, "max", largest: true, run),
        ["min"] = static (value, arguments, run) => Extreme(value, arguments, "min", largest: false, run),
        ["pprint"] = static (value, arguments, run) =>
        {
            arguments.Positional("pprint", 0, 0);
            var repr = new TextBuilder(run);
            value.Repr(repr, value.HasContent);
            return repr.Length <= 80 ? repr.ToText() : throw new JinjaException(JinjaError.Unsupported,
                "pprint of values longer than a line is not implemented; use tojson(indent=2).");
        },
        ["random"] = static (_, _, _) => throw new JinjaException(JinjaError.Unsupported,
            "The filter random is not implemented: the same chat has to give the same text."),
        ["reject"] = static (value, arguments, run) => new Generator(Select(value, arguments, keep: false, byAttribute: false, run)),
        ["rejectattr"] = static (value, arguments, run) => new Generator(Select(value, arguments, keep: false, byAttribute: true, run)),
        ["replace"] = static (value, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Bind("replace", 2, "old", "new", "count");
            return TextMethods.Replace(
                value.ToText(run).AsSafe(false), given[0]!.ToText(run), given[1]!.ToText(run), given[2] is null or NoneValue ? -1
                    : Indexes.Integer(given[2]!), run);
        },
        ["reverse"] = static (value, arguments, run) =>
        {
            arguments.Positional("reverse", 0, 0);
            if (value is Text text)
            {
                return text.Cut(new Indexes(null, null, Int.Of(-1)), run);
            }

            JinjaValue[] items = [.. Reversible(value, run) ?? value.Iterate(run) switch
            {
                null => throw JinjaException.Runtime("argument must be iterable"),
                _ => value.ToArray(run),
            }];
            Array.Reverse(items);
            return value is Generator ? new ListValue(items) : new Generator(((IEnumerable<JinjaValue>)items).GetEnumerator(),
                "list_reverseiterator");
        },
        ["round"] = Round,
        ["safe"] = static (value, arguments, run) =>
        {
            arguments.Positional("safe", 0, 0);
            return value.ToText(run).AsSafe();
        },
        ["select"] = static (value, arguments, run) => new Generator(Select(value, arguments, keep: true, byAttribute: false, run)),
        ["selectattr"] = static (value, arguments, run) => new Generator(Select(value, arguments, keep: true, byAttribute: true, run)),
        ["slice"] = Slices,
        ["sort"] = Sort,
        ["string"] = static (value, arguments, run) =>
        {
            arguments.Positional("string", 0, 0);
            return value.ToText(run);
        },
        ["striptags"] = StripTags,
        ["sum"] = Sum,
        ["title"] = Lost("title", Title),
        ["tojson"] = static (value, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Bind("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
            return JsonText.Write(value, given[0]?.IsTrue(run) == true, given[1], given[2], given[3]?.IsTrue(run) == true, run);
        },
        ["trim"] = static (value, arguments, run) => TextMethods.Strip(value.ToText(run), arguments.Bind("trim", 0, "chars")[0], start: true,
            end: true, run),
        ["truncate"] = Truncate,
        ["unique"] = static (value, arguments, run) => new Generator(Unique(value, arguments, run)),
        ["upper"] = Lost("upper", PythonCase.ToUpper),
        ["urlencode"] = UrlEncode,
        ["urlize"] = static (_, _, _) => throw new JinjaException(JinjaError.Unsupported, "The filter urlize is not implemented: a chat is no HTML."),
        ["wordcount"] = WordCount,
        ["wordwrap"] = static (_, _, _) => throw new JinjaException(JinjaError.Unsupported, "The filter wordwrap is not implemented."),
        ["xmlattr"] = XmlAttributes,
    }.ToFrozenDictionary(StringComparer.Ordinal);

    // HTML entities and their text. The ampersand must come last.
    private static readonly (string, string)[] s_entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];

    // Characters that end the name of an HTML attribute.
    private static readonly SearchValues<char> s_endsOfNames = SearchValues.Create(" \t\n\r\f\v/>=");

    public static Method? Find(string name) => s_all.GetValueOrDefault(name);

    /// <summary>int() of a float.</summary>
    public static Int Truncate(double value, bool content) =>
        double.IsNaN(value) ? throw JinjaException.Value("cannot convert float NaN to integer")
            : double.IsInfinity(value) ? throw JinjaException.Overflow("cannot convert float infinity to integer")
            : Int.Of(new BigInteger(value), content);

    private static Method Lost(string name, Func<string, string> map) => (value, arguments, run) =>
    {
        arguments.Positional(name, 0, 0);
        Text text = value.ToText(run);
        run.Charge(text.Length);
        return text.Lost(map(text.Value), run);
    };

    private static Int Length(JinjaValue value, Arguments arguments, Run run)
    {
        arguments.Positional("len", 0, 0);
        return Int.Of(value.Len(run) ?? throw JinjaException.Type($"object of type '{value.TypeName}' has no len()"));
    }

    private static JinjaValue Default(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("default", 0, "default_value", "boolean");
        return value is Undefined || (given[1]?.IsTrue(run) == true && !value.IsTrue(run)) ? given[0] ?? Text.Empty : value;
    }

    private static Text Escape(JinjaValue value, Arguments arguments, Run run)
    {
        arguments.Positional("escape", 0, 0);
        return Html.Escape(value, run);
    }

    // A word starts after a hyphen, white space or an opening bracket.
    private static string Title(string text)
    {
        var title = new StringBuilder(text.Length);
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            bool separates = i < text.Length && (text[i] is '-' or '(' or '{' or '[' or '<' || PythonChars.IsSpace(text[i]));
            if (i < text.Length && !separates)
            {
                continue;
            }

            if (i > start)
            {
                int first = Rune.TryGetRuneAt(text, start, out Rune rune) ? rune.Utf16SequenceLength : 1;
                PythonCase.AppendUpper(rune, title);
                title.Append(PythonCase.ToLower(text[(start + first)..i]));
            }

            if (separates)
            {
                title.Append(text[i]);
            }

            start = i + 1;
        }

        return title.ToString();
    }

    private static Text Indent(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("indent", 0, "width", "first", "blank");
        if (value is not Text text)
        {
            throw value is Undefined undefined ? undefined.Error()
                : JinjaException.Type($"unsupported operand type(s) for +=: '{value.TypeName}' and 'str'");
        }

        JinjaValue width = given[0] ?? Int.Of(4);
        Text step = width as Text ?? (Text)Arithmetic.Multiply(Text.Of(" "), width, run);
        bool first = given[1]?.IsTrue(run) == true;
        bool blank = given[2]?.IsTrue(run) == true;
        var indented = new TextBuilder(run);

        // A newline at the end starts one more, empty line.
        Text more = (Text)Arithmetic.Add(text, Text.Of("\n"), run);
        bool begun = false;
        foreach (Text line in TextMethods.Lines(more, keepEnds: false, run))
        {
            if (begun)
            {
                indented.Append('\n', content: false);
            }

            if (begun ? blank || line.Length > 0 : first)
            {
                indented.Append(step);
            }

            indented.Append(line);
            begun = true;
        }

        return indented.ToText(text.IsSafe);
    }

    private static JinjaValue Truncate(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("truncate", 0, "length", "killwords", "end", "leeway");
        int length = given[0] is null ? 255 : Indexes.Integer(given[0]!);
        int leeway = given[3] is null or NoneValue ? 5 : Indexes.Integer(given[3]!);
        Text end = given[2] is null ? Text.Of("...") : given[2] as Text ?? throw JinjaException.Type("the end of truncate has to be a string");
        if (length < end.Points || leeway < 0)
        {
            throw JinjaException.Value($"truncate expects a length of at least {end.Points} and a leeway of at least 0, got {length} and {leeway}");
        }

        long points = value.Len(run) ?? throw JinjaException.Type($"object of type '{value.TypeName}' has no len()");
        if (points <= (long)length + leeway)
        {
            return value;
        }

        Text text = value as Text ?? throw JinjaException.Type($"object of type '{value.TypeName}' cannot be truncated");
        Text cut = text.Slice(0, text.UnitOf(length - end.Points));
        int space = given[1]?.IsTrue(run) == true ? -1 : cut.Value.LastIndexOf(' ');
        return Arithmetic.Add(space < 0 ? cut : cut.Slice(0, space), end, run);
    }

    private static Int WordCount(JinjaValue value, Arguments arguments, Run run)
    {
        arguments.Positional("wordcount", 0, 0);
        int words = 0;
        bool inWord = false;
        string text = value.ToText(run).Value;
        run.Charge(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            bool word = PythonChars.IsWord(rune);
            words += word && !inWord ? 1 : 0;
            inWord = word;
        }

        return Int.Of(words);
    }

    private static Text Join(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("join", 0, "d", "attribute");
        Text separator = (given[0] ?? Text.Empty).ToText(run);
        string[]? path = given[1] is null or NoneValue ? null : PathOf(given[1]!, run);
        var joined = new TextBuilder(run);
        bool first = true;
        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            if (!first)
            {
                joined.Append(separator);
            }

            first = false;
            joined.AppendStr(path is null ? items.Current : Follow(items.Current, path, null, run));
        }

        return joined.ToText();
    }

    private static Text StripTags(JinjaValue value, Arguments arguments, Run run)
    {
        arguments.Positional("striptags", 0, 0);
        Text text = value.ToText(run);
        run.ChargeText(text.Length);
        string plain = text.Value;
        plain = Remove(plain, "<!--", "-->");
        plain = Remove(plain, "<", ">");
        plain = string.Join(' ', plain.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        foreach ((string entity, string plainly) in s_entities)
        {
            plain = plain.Replace(entity, plainly, StringComparison.Ordinal);
        }

        return Text.Of(plain, text.HasContent);

        static string Remove(string from, string open, string close)
        {
            var left = new StringBuilder();
            int at = 0;
            while (from.IndexOf(open, at, StringComparison.Ordinal) is >= 0 and int start
                && from.IndexOf(close, start, StringComparison.Ordinal) is >= 0 and int end)
            {
                left.Append(from, at, start - at);
                at = end + close.Length;
            }

            return left.Append(from, at, from.Length - at).ToString();
        }
    }

    private static Text UrlEncode(JinjaValue value, Arguments arguments, Run run)
    {
        arguments.Positional("urlencode", 0, 0);
        IEnumerator<JinjaValue>? items = value is Text ? null : value is MapValue ? Items(value, run) : value.Iterate(run);
        if (items is null)
        {
            Text text = value.ToText(run);
            run.Charge(text.Length);
            return text.Lost(Html.Quote(text.Value, query: false), run);
        }

        var encoded = new TextBuilder(run);
        while (items.MoveNext())
        {
            JinjaValue[] pair = items.Current.ToArray(run);
            if (pair.Length != 2)
            {
                throw JinjaException.Value($"urlencode expects pairs, got {pair.Length} values");
            }

            bool content = items.Current.HasContent;
            encoded.Append(encoded.Length > 0 ? "&" : "", content);
            encoded.Append(Html.Quote(pair[0].ToText(run).Value, query: true), content);
            encoded.Append("=", content);
            encoded.Append(Html.Quote(pair[1].ToText(run).Value, query: true), content);
        }

        return encoded.ToText();
    }

    private static Text XmlAttributes(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("xmlattr", 0, "autospace");
        var written = new TextBuilder(run);
        using IEnumerator<JinjaValue> items = Items(AsMap(value), run);
        while (items.MoveNext())
        {
            JinjaValue[] pair = ((TupleValue)items.Current).Values;
            if (pair[1] is NoneValue or Undefined)
            {
                continue;
            }

            string name = pair[0] is Text text ? text.Value : throw JinjaException.Type("expected string or bytes-like object");
            if (name.AsSpan().ContainsAny(s_endsOfNames))
            {
                throw JinjaException.Value("Invalid character in attribute name");
            }

            written.Append(written.Length > 0 || given[0]?.IsTrue(run) != false ? " " : "", content: false);
            written.Append(Html.Escape(pair[0], run));
            written.Append("=\"", content: false);
            written.Append(Html.Escape(pair[1], run));
            written.Append("\"", content: false);
        }

        return written.ToText();
    }
}

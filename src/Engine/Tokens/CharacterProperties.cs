using System.Globalization;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Properties of characters by Oniguruma's names (doc/UNICODE_PROPERTIES), as sets of code points, and the foldings of case: the general categories,
/// in the .NET runtime's version of Unicode; the scripts and some binary properties, in that of <see cref="CharacterData"/>; and the names of POSIX.
/// </summary>
internal sealed class CharacterProperties
{
    private static readonly Lazy<CharacterProperties> s_shared = new(static () => new CharacterProperties());

    // In the order of UnicodeCategory: short and long names.
    private static readonly string[][] s_categories =
    [
        ["lu", "uppercaseletter"], ["ll", "lowercaseletter"], ["lt", "titlecaseletter"], ["lm", "modifierletter"], ["lo", "otherletter"],
        ["mn", "nonspacingmark"], ["mc", "spacingmark"], ["me", "enclosingmark"],
        ["nd", "decimalnumber", "digit"], ["nl", "letternumber"], ["no", "othernumber"],
        ["zs", "spaceseparator"], ["zl", "lineseparator"], ["zp", "paragraphseparator"],
        ["cc", "control", "cntrl"], ["cf", "format"], ["cs", "surrogate"], ["co", "privateuse"],
        ["pc", "connectorpunctuation"], ["pd", "dashpunctuation"], ["ps", "openpunctuation"], ["pe", "closepunctuation"],
        ["pi", "initialpunctuation"], ["pf", "finalpunctuation"], ["po", "otherpunctuation"],
        ["sm", "mathsymbol"], ["sc", "currencysymbol"], ["sk", "modifiersymbol"], ["so", "othersymbol"], ["cn", "unassigned"],
    ];

    // A letter stands for all categories whose short name begins with it.
    private static readonly (char Letter, string[] Names)[] s_groups =
    [
        ('l', ["l", "letter"]), ('m', ["m", "mark", "combiningmark"]), ('n', ["n", "number"]), ('p', ["p", "punctuation", "punct"]),
        ('s', ["s", "symbol"]), ('z', ["z", "separator"]), ('c', ["c", "other"]),
    ];

    private readonly Dictionary<string, CodePointSet> _sets = new(StringComparer.Ordinal);
    private readonly Dictionary<int, int[]> _folds = []; // full case foldings
    private readonly Dictionary<int, int[]> _likes = []; // the code points that fold to the same, with the code point itself
    private readonly (int Code, int[] Folded)[] _longFolds; // foldings to several code points

    private CharacterProperties()
    {
        ReadOnlySpan<byte> data = PackedNumbers.Unpack(CharacterData.Packed);
        for (int n = PackedNumbers.Read(ref data); n > 0; n--)
        {
            int length = PackedNumbers.Read(ref data);
            string names = Encoding.ASCII.GetString(data[..length]);
            data = data[length..];
            var edges = new int[2 * PackedNumbers.Read(ref data)];
            for (int i = 0, end = 0; i < edges.Length; i += 2)
            {
                edges[i] = end + PackedNumbers.Read(ref data);
                edges[i + 1] = end = edges[i] + PackedNumbers.Read(ref data) + 1;
            }

            Add(CodePointSet.OfEdges(edges), names.Split('|'));
        }

        int code = 0;
        for (int n = PackedNumbers.Read(ref data); n > 0; n--)
        {
            code += PackedNumbers.Read(ref data);
            int[] folded = new int[PackedNumbers.Read(ref data)];
            for (int i = 0; i < folded.Length; i++)
            {
                folded[i] = PackedNumbers.Read(ref data);
            }

            _folds[code] = folded;
        }

        AddCategories();
        AddCombined();
        FindLikes();
        _longFolds = [.. _folds.Where(static x => x.Value.Length > 1).Select(static x => (x.Key, x.Value))];
    }

    /// <summary>\w, but for the numbers of Latin-1 that Oniguruma adds outside a class: Alphabetic, marks, decimal digits and connectors.</summary>
    public static CodePointSet Word => s_shared.Value._sets["word"];

    /// <summary>\s: White_Space.</summary>
    public static CodePointSet Space => s_shared.Value._sets["whitespace"];

    /// <summary>\d: decimal digits of all scripts.</summary>
    public static CodePointSet Digit => s_shared.Value._sets["nd"];

    /// <summary>\h: hexadecimal digits of ASCII.</summary>
    public static CodePointSet HexDigit => s_shared.Value._sets["xdigit"];

    /// <summary>The property of a name. Case, spaces, hyphens and underscores do not matter.</summary>
    /// <returns>Null if no property of this name is known.</returns>
    public static CodePointSet? Find(string name)
    {
        string plain = string.Concat(name.Where(static c => c is not (' ' or '-' or '_'))).ToLowerInvariant();
        return s_shared.Value._sets.GetValueOrDefault(plain);
    }

    /// <summary>The full case folding of a code point: itself if it has none.</summary>
    public static ReadOnlySpan<int> Fold(int code) => s_shared.Value._folds.TryGetValue(code, out int[]? folded) ? folded : (int[])[code];

    /// <summary>Whether folded characters end with the folding of one character to several, which they equal where case is ignored.</summary>
    public static bool EndsInLongFold(ReadOnlySpan<int> folded)
    {
        foreach ((_, int[] several) in s_shared.Value._longFolds)
        {
            if (folded.EndsWith(several))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The code points that equal one where case is ignored, with it.</summary>
    public static CodePointSet Likes(int code) =>
        s_shared.Value._likes.TryGetValue(code, out int[]? likes) ? CodePointSet.Of(likes) : CodePointSet.Of(code, code);

    /// <summary>All code points that equal one of a set where case is ignored, with the set.</summary>
    public static CodePointSet Closed(CodePointSet set)
    {
        var more = new List<int>();
        foreach ((int code, int[] likes) in s_shared.Value._likes)
        {
            if (set.Contains(code))
            {
                more.AddRange(likes);
            }
        }

        return set | CodePointSet.Of(more);
    }

    /// <summary>A code point of the set that folds to several; -1 if there is none.</summary>
    public static int LongFoldIn(CodePointSet set)
    {
        foreach ((int code, _) in s_shared.Value._longFolds)
        {
            if (set.Contains(code))
            {
                return code;
            }
        }

        return -1;
    }

    private void Add(CodePointSet set, params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            _sets[name] = set;
        }
    }

    private void AddCategories()
    {
        var edges = new List<int>[s_categories.Length];
        for (int i = 0; i < edges.Length; i++)
        {
            edges[i] = [];
        }

        for (int code = 0, last = -1; code <= 0x10FFFF; code++)
        {
            int category = (int)CharUnicodeInfo.GetUnicodeCategory(code);
            if (category != last)
            {
                if (last >= 0)
                {
                    edges[last].Add(code);
                }

                edges[category].Add(code);
                last = category;
            }
        }

        edges[(int)CharUnicodeInfo.GetUnicodeCategory(0x10FFFF)].Add(0x110000);
        for (int i = 0; i < edges.Length; i++)
        {
            Add(CodePointSet.OfEdges(edges[i]), s_categories[i]);
        }

        foreach ((char letter, string[] names) in s_groups)
        {
            Add(s_categories.Where(x => x[0][0] == letter).Aggregate(CodePointSet.Empty, (set, x) => set | _sets[x[0]]), names);
        }
    }

    // The names of POSIX, as Oniguruma defines them for Unicode (doc/RE, "POSIX bracket, Unicode case").
    private void AddCombined()
    {
        CodePointSet letters = _sets["alphabetic"];
        CodePointSet space = _sets["whitespace"];
        CodePointSet visible = ~(space | _sets["cc"] | _sets["cn"] | _sets["cs"]);
        Add(letters, "alpha");
        Add(letters | _sets["nd"], "alnum");
        Add(_sets["uppercase"], "upper");
        Add(_sets["lowercase"], "lower");
        Add(space, "space");
        Add(_sets["zs"] | CodePointSet.Of('\t', '\t'), "blank");
        Add(visible, "graph");
        Add(visible | _sets["zs"], "print");
        Add(CodePointSet.Of('0', '9') | CodePointSet.Of('A', 'F') | CodePointSet.Of('a', 'f'), "xdigit");
        Add(letters | _sets["m"] | _sets["nd"] | _sets["pc"], "word");
        Add(CodePointSet.Of(0, 0x7F), "ascii");
        Add(CodePointSet.All, "any");
        Add(~_sets["cn"], "assigned");
        Add(_sets["lu"] | _sets["ll"] | _sets["lt"], "lc", "casedletter");
    }

    private void FindLikes()
    {
        var groups = new Dictionary<string, List<int>>(StringComparer.Ordinal);
        foreach ((int code, int[] folded) in _folds)
        {
            string key = string.Join(' ', folded);
            if (!groups.TryGetValue(key, out List<int>? group))
            {
                groups[key] = group = folded.Length == 1 ? [folded[0]] : [];
            }

            group.Add(code);
        }

        foreach (List<int> group in groups.Values)
        {
            int[] likes = [.. group];
            foreach (int code in likes)
            {
                _likes[code] = likes;
            }
        }
    }
}

namespace Tiller.Tokens;

/// <summary>The post_processor of tokenizer.json, compiled to the ids that it adds before and after a text.</summary>
internal sealed class PostProcessor
{
    private const int MaxIds = 4096;

    private PostProcessor(int[] prefix, int[] suffix)
    {
        Prefix = prefix;
        Suffix = suffix;
    }

    public int[] Prefix { get; }

    public int[] Suffix { get; }

    public static PostProcessor Read(TokenizerNode node, TokenTable tokens)
    {
        List<int> prefix = [];
        List<int> suffix = [];
        Read(node, tokens, prefix, suffix);
        return new PostProcessor([.. prefix], [.. suffix]);
    }

    private static void Read(TokenizerNode node, TokenTable tokens, List<int> prefix, List<int> suffix)
    {
        if (node.IsNull)
        {
            return;
        }

        string kind = node.Kind();
        switch (kind)
        {
            case "ByteLevel": // changes offsets only
                break;
            case "Sequence":
                foreach (TokenizerNode item in node["processors"].Items())
                {
                    Read(item, tokens, prefix, suffix);
                }

                break;
            case "TemplateProcessing":
                ReadTemplate(node, tokens, prefix, suffix);
                break;
            case "BertProcessing":
            case "RobertaProcessing":
                prefix.Insert(0, NamedId(node["cls"], tokens));
                suffix.Add(NamedId(node["sep"], tokens));
                break;
            default:
                throw node.Unsupported(kind, "Sequence, ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing");
        }
    }

    private static void ReadTemplate(TokenizerNode node, TokenTable tokens, List<int> prefix, List<int> suffix)
    {
        Dictionary<string, int[]> special = new(StringComparer.Ordinal);
        foreach ((string name, TokenizerNode value) in node["special_tokens"].Properties())
        {
            special[name] = [.. value["ids"].Items().Select(x => Id(x, tokens))];
        }

        List<int> before = [];
        List<int> after = [];
        bool seen = false;
        foreach (TokenizerNode piece in node["single"].Items())
        {
            if (piece["SpecialToken"].IsObject)
            {
                TokenizerNode id = piece["SpecialToken"]["id"];
                if (!special.TryGetValue(id.Text(), out int[]? ids))
                {
                    throw new TokenizerException(TokenizerError.MissingSpecialToken, id.Path, id.Text(),
                        "Missing SpecialToken(s): the template uses it, special_tokens does not define it.");
                }

                (seen ? after : before).AddRange(ids);
                if (before.Count + after.Count + prefix.Count + suffix.Count > MaxIds)
                {
                    throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a template adds at most {MaxIds} ids.");
                }
            }
            else
            {
                TokenizerNode id = piece["Sequence"]["id"];
                if (seen || id.Text() != "A")
                {
                    throw id.Wrong("the sequence A, once");
                }

                seen = true;
            }
        }

        if (!seen)
        {
            throw node["single"].Wrong("a template with the sequence A");
        }

        prefix.InsertRange(0, before);
        suffix.AddRange(after);
    }

    // ["[CLS]", 2]
    private static int NamedId(TokenizerNode node, TokenTable tokens)
    {
        TokenizerNode[] pair = [.. node.Items()];
        return pair.Length == 2 ? Id(pair[1], tokens) : throw node.Wrong("a token and its id");
    }

    private static int Id(TokenizerNode node, TokenTable tokens)
    {
        int id = node.Integer(0, TokenTable.IdLimit - 1);
        return tokens.Contains(id)
            ? id
            : throw new TokenizerException(TokenizerError.MissingSpecialToken, node.Path, $"{id}", "expected the id of a token.");
    }
}

using System.CommandLine;
using System.Text.Json;
using Tiller.Chat;

namespace Tiller.Tool;

/// <summary>The options of chat templates.</summary>
internal sealed class ChatArguments
{
    private readonly Option<string[]> _variables = new("--chat-arg")
    {
        Description = "With --chat: a variable of the chat template as name=JSON, for example enable_thinking=false or tools='[…]'. Repeatable.",
        HelpName = "NAME=JSON",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string?> _template = new("--chat-template")
    {
        Description = "With --chat: the name of the chat template, for checkpoints with several.",
        HelpName = "NAME",
    };

    private readonly Option<bool> _published = new("--chat-published")
    {
        Description = "With --chat: recognise special tokens in the prompt and in variables too, as the published code does. "
            + "By default they are plain text there.",
    };

    public void AddTo(Command command)
    {
        command.Add(_variables);
        command.Add(_template);
        command.Add(_published);
    }

    /// <summary>Reads and checks the options.</summary>
    /// <exception cref="UsageException">A variable is not a name and JSON, is named twice, or there is no --chat.</exception>
    public ChatOptions Read(ParseResult parse, bool chat)
    {
        var variables = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        foreach (string variable in parse.GetValue(_variables) ?? [])
        {
            int equals = variable.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? "" : variable[..equals].Trim();
            if (name.Length == 0 || name == "messages")
            {
                throw new UsageException($"Option '--chat-arg' expects NAME=JSON, where NAME is a variable of the template "
                    + $"other than messages; found '{variable}'.");
            }

            if (!variables.TryAdd(name, Json(name, variable[(equals + 1)..])))
            {
                throw new UsageException($"Option '--chat-arg' names '{name}' twice.");
            }
        }

        var options = new ChatOptions { Template = parse.GetValue(_template), ParseContent = parse.GetValue(_published) };
        options = variables.Count == 0 ? options : options with { Variables = variables };
        return chat || (variables.Count == 0 && options.Template is null && !options.ParseContent) ? options
            : throw new UsageException("--chat-arg, --chat-template and --chat-published need --chat: only chats have a template.");
    }

    private static JsonElement Json(string name, string value)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(value, new JsonDocumentOptions { MaxDepth = 256 });
            return document.RootElement.Clone();
        }
        catch (JsonException e)
        {
            throw new UsageException($"Option '--chat-arg' expects JSON for '{name}' "
                + $"(a string is written with quotes, '{name}=\"text\"'): {e.Message}");
        }
    }
}

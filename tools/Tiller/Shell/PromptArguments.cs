using System.CommandLine;
using Tiller.Chat;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary>Where the prompt comes from and how it is put to the model.</summary>
/// <param name="Text">The prompt itself, if it was an argument.</param>
/// <param name="File">File whose whole text is the prompt.</param>
/// <param name="Chat">Whether the prompt is a user's message in the checkpoint's chat format.</param>
/// <param name="System">System message, with <paramref name="Chat"/> only.</param>
internal sealed record PromptRequest(string? Text, string? File, bool Chat, string? System)
{
    /// <summary>How the chat is put to the checkpoint's template.</summary>
    public ChatOptions ChatOptions { get; init; } = new();

    /// <summary>The prompt; one line break at the end of a file or of standard input is not part of it.</summary>
    /// <exception cref="UsageException">There is none, and standard input is a terminal.</exception>
    /// <exception cref="PromptFileException">The file or standard input cannot be read or is not UTF-8.</exception>
    public string Read(Terminal terminal, CancellationToken cancellationToken)
    {
        if (Text is not (null or "-"))
        {
            return Text;
        }

        if (File is null && Text is null && terminal.InputIsTerminal)
        {
            throw new UsageException("Expected a prompt: as the last argument, as --file FILE, or on standard input.");
        }

        string text = File is null
            ? PromptFile.ReadText(terminal.Input, "standard input", cancellationToken)
            : PromptFile.ReadText(File, cancellationToken);
        return text.EndsWith("\r\n", StringComparison.Ordinal) ? text[..^2] : text.EndsWith('\n') ? text[..^1] : text;
    }
}

/// <summary>The arguments of the commands that take a prompt.</summary>
internal sealed class PromptArguments
{
    private readonly Argument<string?> _text = new("prompt")
    {
        Description = "The prompt. Without it, or as '-', it is read from standard input. Put -- before a prompt that begins with a dash.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private readonly Option<string?> _file = new("--file")
    {
        Description = "Read the prompt, all of the file, from here (UTF-8).",
        HelpName = "FILE",
    };
    private readonly Option<bool> _chat = new("--chat") { Description = "The prompt is a user's message: put it in the checkpoint's chat format." };
    private readonly Option<string?> _system = new("--system") { Description = "System message, with --chat.", HelpName = "text" };
    private readonly ChatArguments _chatArguments = new();

    public void AddTo(Command command)
    {
        command.Add(_text);
        command.Add(_file);
        command.Add(_chat);
        command.Add(_system);
        _chatArguments.AddTo(command);
    }

    /// <summary>Refuses a system message where there is no chat.</summary>
    /// <exception cref="UsageException">There is one.</exception>
    public static void CheckSystem(bool chat, string? system)
    {
        if (system is not null && !chat)
        {
            throw new UsageException("--system needs --chat: only chats have a system message.");
        }
    }

    /// <summary>What was asked for, checked.</summary>
    /// <exception cref="UsageException">The arguments contradict each other.</exception>
    public PromptRequest Read(ParseResult parse)
    {
        bool chat = parse.GetValue(_chat);
        var request = new PromptRequest(parse.GetValue(_text), parse.GetValue(_file), chat, parse.GetValue(_system))
        {
            ChatOptions = _chatArguments.Read(parse, chat),
        };
        if (request.Text is not null && request.File is not null)
        {
            throw new UsageException("The prompt is given twice, as an argument and as --file: leave one out.");
        }

        CheckSystem(request.Chat, request.System);
        return request;
    }
}

using System.CommandLine;
using Tiller.Chat;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary>The source of the prompt and its form.</summary>
/// <param name="Text">The prompt, if it was an argument.</param>
/// <param name="File">A file whose whole text is the prompt.</param>
/// <param name="Chat">Whether the prompt is a user's message in the checkpoint's chat format.</param>
/// <param name="System">The system message; only with <paramref name="Chat"/>.</param>
internal sealed record PromptRequest(string? Text, string? File, bool Chat, string? System)
{
    /// <summary>Options of the chat template.</summary>
    public ChatOptions ChatOptions { get; init; } = new();

    /// <summary>Reads the prompt. One line break at the end of a file or of standard input is not part of it.</summary>
    /// <exception cref="UsageException">There is no prompt, and standard input is a terminal.</exception>
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
        Description = "The prompt. If it is missing or '-', it is read from standard input. Put -- before a prompt that begins with a dash.",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private readonly Option<string?> _file = new("--file")
    {
        Description = "Read the prompt from this file (UTF-8): its whole text is the prompt.",
        HelpName = "FILE",
    };
    private readonly Option<bool> _chat = new("--chat")
    {
        Description = "The prompt is a user's message: format it by the checkpoint's chat template.",
    };

    private readonly Option<string?> _system = new("--system") { Description = "With --chat: the system message.", HelpName = "text" };
    private readonly ChatArguments _chatArguments = new();

    public void AddTo(Command command)
    {
        command.Add(_text);
        command.Add(_file);
        command.Add(_chat);
        command.Add(_system);
        _chatArguments.AddTo(command);
    }

    /// <summary>Refuses a system message without a chat.</summary>
    /// <exception cref="UsageException">There is a system message but no chat.</exception>
    public static void CheckSystem(bool chat, string? system)
    {
        if (system is not null && !chat)
        {
            throw new UsageException("--system needs --chat: only chats have a system message.");
        }
    }

    /// <summary>Reads and checks the arguments.</summary>
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

namespace Tiller.Tokens;

/// <summary>How a family of chat templates writes messages.</summary>
internal abstract record ChatStyle
{
    public const string System = "system";
    public const string User = "user";
    public const string Assistant = "assistant";

    /// <summary>Name of the format.</summary>
    public abstract string Name { get; }

    /// <summary>Special tokens the format cannot do without; the first ends an answer.</summary>
    public abstract IReadOnlyList<string> Needs { get; }

    /// <summary>Writes the messages, whose roles are known and whose number is at least one.</summary>
    public abstract void Write(IReadOnlyList<ChatMessage> messages, bool prompt, string bos, string eos, ChatText text);

    // After an optional system message (if the format has one): user, assistant, user, ...
    protected void RequireAlternation(IReadOnlyList<ChatMessage> messages, bool system)
    {
        int first = messages[0].Role == System ? 1 : 0;
        if (first == 1 && !system)
        {
            throw new ChatException(ChatError.Role,
                $"The chat format {Name} of this checkpoint has no system message; put its text at the start of the first user message.");
        }

        if (first == messages.Count)
        {
            throw new ChatException(ChatError.Order, $"The chat format {Name} needs a user message after the system message.");
        }

        for (int i = first; i < messages.Count; i++)
        {
            string expected = (i - first) % 2 == 0 ? User : Assistant;
            if (messages[i].Role != expected)
            {
                throw new ChatException(ChatError.Order,
                    $"In the chat format {Name} roles alternate, user first: message {i} should be of role {expected}, it is of role {messages[i].Role}.");
            }
        }
    }
}

/// <summary>Llama-3: a header with the role, two newlines, the text, &lt;|eot_id|&gt;. From 3.1 a system block with dates comes first.</summary>
internal sealed record HeaderStyle(Func<string>? Date, bool SystemTrimmed, bool AlwaysPrompt) : ChatStyle
{
    public override string Name => "llama-3";

    public override IReadOnlyList<string> Needs => ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"];

    public override void Write(IReadOnlyList<ChatMessage> messages, bool prompt, string bos, string eos, ChatText text)
    {
        text.Template(bos);
        int first = 0;
        if (Date is not null)
        {
            first = messages[0].Role == System ? 1 : 0;
            string system = first == 0 ? "" : SystemTrimmed ? ChatText.Trim(messages[0].Content) : messages[0].Content;
            Header(System, text).Template($"Cutting Knowledge Date: December 2023\nToday Date: {Date()}\n\n").Message(system).Template("<|eot_id|>");
        }

        foreach (ChatMessage message in messages.Skip(first))
        {
            Header(message.Role, text).Message(ChatText.Trim(message.Content)).Template("<|eot_id|>");
        }

        if (prompt || AlwaysPrompt)
        {
            Header(Assistant, text);
        }
    }

    private static ChatText Header(string role, ChatText text) => text.Template($"<|start_header_id|>{role}<|end_header_id|>\n\n");
}

/// <summary>ChatML: &lt;|im_start|&gt;role, newline, text, &lt;|im_end|&gt;, newline; a default system message if the template has one.</summary>
internal sealed record ChatMlStyle(string? DefaultSystem) : ChatStyle
{
    public override string Name => "chatml";

    public override IReadOnlyList<string> Needs => ["<|im_end|>", "<|im_start|>"];

    public override void Write(IReadOnlyList<ChatMessage> messages, bool prompt, string bos, string eos, ChatText text)
    {
        if (DefaultSystem is not null && messages[0].Role != System)
        {
            text.Template($"<|im_start|>{System}\n").Message(DefaultSystem).Template("<|im_end|>\n");
        }

        foreach (ChatMessage message in messages)
        {
            text.Template($"<|im_start|>{message.Role}\n").Message(message.Content).Template("<|im_end|>\n");
        }

        if (prompt)
        {
            text.Template($"<|im_start|>{Assistant}\n");
        }
    }
}

/// <summary>Gemma: &lt;start_of_turn&gt;role, newline, text, &lt;end_of_turn&gt;, newline; the assistant is "model".</summary>
/// <param name="Alternates">The template refuses a system message and roles out of turn; otherwise it writes any.</param>
internal sealed record TurnStyle(bool Alternates) : ChatStyle
{
    public override string Name => "gemma";

    public override IReadOnlyList<string> Needs => ["<end_of_turn>", "<start_of_turn>"];

    public override void Write(IReadOnlyList<ChatMessage> messages, bool prompt, string bos, string eos, ChatText text)
    {
        if (Alternates)
        {
            RequireAlternation(messages, system: false);
        }

        text.Template(bos);
        foreach (ChatMessage message in messages)
        {
            string role = message.Role == Assistant ? "model" : message.Role;
            text.Template($"<start_of_turn>{role}\n").Message(ChatText.Trim(message.Content)).Template("<end_of_turn>\n");
        }

        if (prompt)
        {
            text.Template("<start_of_turn>model\n");
        }
    }
}

/// <summary>Where an [INST] format puts the system message.</summary>
internal enum SystemPlace
{
    /// <summary>It has none.</summary>
    None,

    /// <summary>In &lt;&lt;SYS&gt;&gt; brackets before the first user message.</summary>
    Brackets,

    /// <summary>Two newlines before the first user message.</summary>
    FirstUser,

    /// <summary>Two newlines before the user message that is the last message of all.</summary>
    LastUser,
}

/// <summary>Llama-2 and Mistral: [INST] text [/INST] answer end-of-text. The template ignores the generation prompt: [/INST] is it.</summary>
/// <param name="BosEachTurn">The beginning-of-text token stands before every [INST], not only at the start.</param>
/// <param name="Open">Before a user's text.</param>
/// <param name="Close">After a user's text.</param>
/// <param name="TrimUser">A user's text (with its system message) is trimmed.</param>
/// <param name="AnswerOpen">Before an answer.</param>
/// <param name="TrimAnswer">An answer is trimmed.</param>
/// <param name="BeforeEos">Between an answer and its end-of-text token.</param>
/// <param name="AfterEos">After it.</param>
/// <param name="Place">Where the system message goes.</param>
/// <param name="Alternates">The template refuses roles out of turn; otherwise a system message anywhere goes to the user message after it.</param>
internal sealed record InstStyle(
    bool BosEachTurn, string Open, string Close, bool TrimUser, string AnswerOpen, bool TrimAnswer, string BeforeEos, string AfterEos, SystemPlace Place, bool Alternates = true)
    : ChatStyle
{
    public override string Name => BosEachTurn ? "llama-2" : "mistral";

    public override IReadOnlyList<string> Needs => [];

    public override void Write(IReadOnlyList<ChatMessage> messages, bool prompt, string bos, string eos, ChatText text)
    {
        if (Alternates)
        {
            RequireAlternation(messages, system: Place != SystemPlace.None);
        }

        if (!BosEachTurn)
        {
            text.Template(bos);
        }

        string? system = null;
        for (int i = 0; i < messages.Count; i++)
        {
            string content = messages[i].Content;
            switch (messages[i].Role)
            {
                case System:
                    system = content;
                    break;
                case User:
                    if (system is not null && (Place != SystemPlace.LastUser || i == messages.Count - 1))
                    {
                        content = Place == SystemPlace.Brackets ? $"<<SYS>>\n{system}\n<</SYS>>\n\n{content}" : $"{system}\n\n{content}";
                        system = null;
                    }

                    text.Template((BosEachTurn ? bos : "") + Open).Message(TrimUser ? ChatText.Trim(content) : content).Template(Close);
                    break;
                default:
                    text.Template(AnswerOpen).Message(TrimAnswer ? ChatText.Trim(content) : content).Template(BeforeEos + eos + AfterEos);
                    break;
            }
        }
    }
}

using Tiller.Features;

namespace Tiller.Tool;

/// <summary>Prints the form of a controller's prompts, for <c>tiller fit</c>, <c>inspect</c> and <c>steer</c>.</summary>
internal static class PromptFormOutput
{
    private const int ShownLength = 60;

    /// <summary>The form in words.</summary>
    public static string Text(PromptForm? form) => form switch
    {
        RawForm => "raw text",
        ChatForm chat => $"chat, template {chat.TemplateSha256[..Math.Min(12, chat.TemplateSha256.Length)]}, {System(chat)}",
        TokenForm => "token ids of the caller",
        _ => "not known",
    };

    /// <summary>Advice if the form of a steered prompt differs from that of the fitted prompts.</summary>
    public static string Advice(PromptForm fitted, PromptForm steered) => (fitted, steered) switch
    {
        (RawForm, _) => "Steer without --chat, or fit it again with --chat.",
        (ChatForm chat, RawForm) => $"Steer with {Options(chat)}, or fit it again without --chat.",
        (ChatForm chat, ChatForm now) when !string.Equals(chat.TemplateSha256, now.TemplateSha256, StringComparison.OrdinalIgnoreCase) =>
            "Fit it again with the template of this checkpoint.",
        (ChatForm chat, _) => $"Steer with {Options(chat)}, or fit it again with this system message.",
        _ => "",
    };

    private static string Options(ChatForm chat) =>
        chat.System is { } system ? $"--chat --system {Quoted(system)}" : chat.SystemVaries ? "--chat" : "--chat and no --system";

    private static string System(ChatForm chat) =>
        chat.SystemVaries ? "system messages that differ" : chat.System is { } system ? $"system {Quoted(system)}" : "no system message";

    private static string Quoted(string text)
    {
        string start = text.Length <= ShownLength ? text : text[..ShownLength] + "…";
        return $"\"{start.ReplaceLineEndings("\\n")}\"";
    }
}

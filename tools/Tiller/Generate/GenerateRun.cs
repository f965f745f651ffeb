using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary><c>tiller generate</c>, and the parts that <c>tiller steer</c> shares with it.</summary>
internal static class GenerateRun
{
    public static async Task<int> Run(Terminal terminal, GenerateRequest request, CancellationToken cancellationToken)
    {
        string prompt = request.Many is null ? await ReadPrompt(terminal, request.Prompt, cancellationToken) : "";
        Prompt[] prompts = request.Many is { } file ? ManyPromptsRun.Read(request.Prompt, file, cancellationToken) : [];
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        var options = Options(request.Decoding);
        if (request.Many is { } many)
        {
            return ManyPromptsRun.Run(terminal, model, request.Prompt, many, prompts, options, [], request.Json, cancellationToken);
        }

        var plain = Decode(terminal, model, Tokenize(model, request.Prompt, prompt, cancellationToken), options, request.Json, cancellationToken);
        if (request.Json)
        {
            DecodedOutput.WriteJson(terminal, model.Name, plain, steered: null, []);
        }

        return ExitCode.Ok;
    }

    /// <summary>Reads the prompt. Waiting for standard input can be cancelled.</summary>
    public static Task<string> ReadPrompt(Terminal terminal, PromptRequest request, CancellationToken cancellationToken) =>
        Task.Run(() => request.Read(terminal, cancellationToken), cancellationToken).WaitAsync(cancellationToken);

    /// <summary>The ids of the prompt, by the tokenizer's template or the checkpoint's chat format.</summary>
    /// <exception cref="UsageException">The prompt has no tokens, and the tokenizer adds none.</exception>
    public static int[] Tokenize(LanguageModel model, PromptRequest request, string prompt, CancellationToken cancellationToken)
    {
        int[] ids = request.Chat
            ? model.Chat.Encode(new TextPrompt(prompt).AsChat(request.System).Messages, request.ChatOptions, cancellationToken)
            : model.Tokenizer.Encode(prompt, cancellationToken: cancellationToken);
        return ids.Length > 0 ? ids : throw new UsageException("The prompt has no tokens, and this tokenizer adds none: give a longer prompt.");
    }

    public static GenerationOptions Options(DecodingRequest decoding) => new()
    {
        MaxNewTokens = decoding.MaxTokens,
        Sampling = decoding.Sampling,
        StopStrings = decoding.Stop,
    };

    /// <summary>Decodes a text and prints a summary on standard error. Without JSON, also streams the text to standard output.</summary>
    public static DecodedText Decode(
        Terminal terminal, LanguageModel model, int[] prompt, GenerationOptions options, bool json, CancellationToken cancellationToken)
    {
        bool open = false;
        try
        {
            var text = DecodedText.Run(model, prompt, options, json ? static _ => { } : Print, cancellationToken);
            EndLine();
            DecodedOutput.WriteSummary(terminal, text);
            return text;
        }
        finally
        {
            EndLine();
        }

        void Print(string text)
        {
            open = true;
            terminal.Output.Write(terminal.OutputIsTerminal ? VisibleText.Of(text) : text);
            terminal.Output.Flush();
        }

        // Ends the line of the text, so that later output, such as an error, begins a new line.
        void EndLine()
        {
            if (open)
            {
                terminal.Output.WriteLine();
                open = false;
            }
        }
    }
}

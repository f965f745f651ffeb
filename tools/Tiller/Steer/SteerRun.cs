using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Online;

namespace Tiller.Tool;

/// <summary><c>tiller steer</c>: the laws of all controllers, each at its λ, summed into one.</summary>
internal static class SteerRun
{
    public static async Task<int> Run(Terminal terminal, SteerRequest request, CancellationToken cancellationToken)
    {
        string?[] read = [.. request.Steering.Controllers.Select(static c => c.Controller), request.Prompt.File];
        var destination = request.Trace is null ? null : Destination.Of(terminal, "--trace", request.Trace, isText: true, request.Json, read);
        terminal = destination?.Rest ?? terminal;
        var (controllers, law) = Law(terminal, request.Model, request.Steering);
        string prompt = request.Many is null ? await GenerateRun.ReadPrompt(terminal, request.Prompt, cancellationToken) : "";
        Prompt[] prompts = request.Many is { } file ? ManyPromptsRun.Read(request.Prompt, file, cancellationToken) : [];
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        ChatPrompt[] chats = request.Many is not null ? [.. prompts.OfType<ChatPrompt>()]
            : request.Prompt.Chat ? [new TextPrompt("").AsChat(request.Prompt.System)]
            : [];
        WarnOfForms(terminal, chats.Length > 0 ? ChatForm.Of(model.Chat, chats) : new RawForm(), request.Steering, controllers);
        var options = GenerateRun.Options(request.Decoding);
        if (request.Many is { } many)
        {
            options = options with { Law = law, SteeredTokens = request.Steering.Tokens };
            return ManyPromptsRun.Run(
                terminal, model, request.Prompt, many, prompts, options, request.Steering.Controllers, request.Json, cancellationToken);
        }

        int[] ids = GenerateRun.Tokenize(model, request.Prompt, prompt, cancellationToken);
        DecodedText? plain = null;
        if (request.Compare)
        {
            plain = Decode("plain", options);

            // The two texts differ by the controllers only, not by the random draws.
            options = options with { Sampling = options.Sampling with { Seed = plain.Seed ?? options.Sampling.Seed } };
        }

        var trace = destination is null ? null : new SteeringTrace(law);
        options = options with { Law = law, SteeredTokens = request.Steering.Tokens, Trace = trace };
        var steered = Decode(Label(request), request.Fit is { } fit ? Fitted(options, fit, request, controllers) : options);
        destination?.Write(trace!.Write, trace!.Write);
        if (request.Json)
        {
            DecodedOutput.WriteJson(terminal, model.Name, plain, steered, request.Steering.Controllers);
        }

        return ExitCode.Ok;

        DecodedText Decode(string label, GenerationOptions how)
        {
            if (request.Compare && !request.Json)
            {
                terminal.Output.WriteLine($"--- {label}");
            }

            return GenerateRun.Decode(terminal, model, ids, how, request.Json, cancellationToken);
        }
    }

    /// <summary>
    /// Loads the controllers and sums their laws. Refuses controllers of another model before any weight is read, and warns of controllers that do
    /// nothing or are given twice.
    /// </summary>
    public static (Controller[] Controllers, FeedbackLaw Law) Law(Terminal terminal, string model, SteeringRequest steering)
    {
        Controller[] controllers = [.. steering.Controllers.Select(c => Controller.Load(c.Controller))];
        using var folder = CheckpointFolder.Open(model);
        var config = ModelConfigReader.Read(model);
        for (int i = 0; i < controllers.Length; i++)
        {
            var controller = controllers[i];
            controller.CheckModel(folder.Name, folder.Fingerprint, config.L, config.D);
            if (controller.Method.Idle is { } reason)
            {
                terminal.Warn($"{steering.Controllers[i].Controller} does nothing, as {reason}; without it the text is the same.");
            }

            int first = Array.FindIndex(controllers, other => other.SteersAs(controller));
            if (first < i)
            {
                terminal.Warn(
                    $"--controller {i + 1}, {steering.Controllers[i].Controller}, is the same controller as number {first + 1}, " +
                    $"{steering.Controllers[first].Controller}: it steers twice. Give it only once, with the intended λ.");
            }
        }

        return (controllers, FeedbackLaw.Sum(
            [.. controllers.Zip(steering.Controllers, (controller, asked) => controller.ToLaw(asked.Lambda, steering.MaxEffort))]));
    }

    // The sum of what each controller's gains are for the text.
    private static GenerationOptions Fitted(GenerationOptions options, PromptFitRequest asked, SteerRequest request, Controller[] controllers)
    {
        if (controllers.FirstOrDefault(c => asked.Order > c.D) is { } narrow)
        {
            throw new UsageException($"--order must be at most {narrow.D}, the width of this model, got {asked.Order}.");
        }

        PromptFit[] fits = [.. controllers.Zip(request.Steering.Controllers, (controller, steered) =>
            new PromptFit(controller, steered.Lambda, request.Steering.MaxEffort, asked.Order))];
        return options with
        {
            Refit = (session, next, cancellationToken) => FeedbackLaw.Sum([.. fits.Select(fit => fit.Fit(session, next, cancellationToken))]),
            RefitEvery = asked.Every,
        };
    }

    /// <summary>Warns if the form of the prompt differs from that of a controller's prompts.</summary>
    public static void WarnOfForms(Terminal terminal, PromptForm steered, SteeringRequest steering, Controller[] controllers)
    {
        foreach (var (controller, asked) in controllers.Zip(steering.Controllers))
        {
            if (controller.DifferenceTo(steered) is { } difference)
            {
                terminal.Warn($"{Path.GetFileName(asked.Controller)}: {difference} {PromptFormOutput.Advice(controller.Source.Form!, steered)}");
            }
        }
    }

    private static string Label(SteerRequest request) =>
        "steered: " + string.Join(", ", request.Steering.Controllers.Select(c => $"{VisibleText.Of(Path.GetFileName(c.Controller))} λ {c.Lambda}"));
}

using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The prompts of a fit.</summary>
/// <param name="Contrast">The prompts whose difference is the feature.</param>
/// <param name="Calibration">The prompts over which the Jacobians are averaged; null for the contrast prompts.</param>
/// <param name="Alternative">The prompts that show a second feature; null for none.</param>
/// <param name="HeldOut">The prompts on which a certificate is checked; null for none.</param>
/// <param name="Nominal">The prompt whose states a trajectory follows; null for none.</param>
internal sealed record FitPrompts(
    ContrastSet Contrast, IReadOnlyList<Prompt>? Calibration, IReadOnlyList<Prompt>? Alternative, IReadOnlyList<Prompt>? HeldOut, Prompt? Nominal);

/// <summary><c>tiller fit</c>.</summary>
internal static class FitRun
{
    public static int Run(Terminal terminal, FitRequest request, CancellationToken cancellationToken)
    {
        if (request.Out is null || request.Plan)
        {
            PlanOutput.Write(terminal, request.Json, [PlanRun.OfCheckpoint(request, cancellationToken)]);
            return ExitCode.Ok;
        }

        if (request.Shard is { } shard)
        {
            return Measure(terminal, request, shard, cancellationToken);
        }

        string?[] read =
        [
            request.Positive, request.Negative, request.Pairs, request.Calibration, request.Alternative, request.Certify, request.Jacobians,
        ];
        Destination[] destinations = [.. request.Weights.Select(weights =>
            Destination.Of(terminal, "--out", FileOf(request, weights), isText: false, request.Json, read))];
        var page = request.Page is null ? null
            : Destination.Of(terminal, "--page", request.Page, isText: true, request.Json, read).Beside(destinations);
        terminal = page is { IsOutput: true } ? page.Rest : destinations[0].Rest;
        var prompts = Prompts(request, cancellationToken);
        var contrast = prompts.Contrast;
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        var options = Options(request, model.Config, prompts);
        if (request.Shards is null
            && PlanRun.OfLongFit(model, contrast, options, request.Weights.Count, request.Device, cancellationToken) is { } plan)
        {
            PlanOutput.WriteNeed(terminal, plan);
        }

        var results = StageBars.Run(terminal, progress => ControllerFit.Sweep(
            model, contrast, request.Weights, options, ToStages(progress), cancellationToken));
        cancellationToken.ThrowIfCancellationRequested();
        foreach (var (destination, result) in destinations.Zip(results))
        {
            destination.Write(result.Controller.Save, result.Controller.Save);
        }

        page?.Write(stream => CertificatePage.Write(
            stream, [.. destinations.Zip(results, (destination, result) => (Path.GetFileName(destination.Name), result.Controller))]));

        if (request.Json)
        {
            FitOutput.WriteJson(terminal, [.. request.Weights.Select(weights => FileOf(request, weights))], results);
        }
        else
        {
            foreach (var (destination, result) in destinations.Zip(results))
            {
                FitOutput.WriteText(terminal, destination.Name, result);
            }
        }

        return ExitCode.Ok;
    }

    private static int Measure(Terminal terminal, FitRequest request, Shard shard, CancellationToken cancellationToken)
    {
        var prompts = Prompts(request, cancellationToken);
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        var command = request.Command!;
        var part = FitShard.Of(
            model, prompts.Contrast, Options(request, model.Config, prompts), shard, command.ToString(), command.Directory, cancellationToken);
        ShardOutput.Begin(terminal, shard, part.Prompts, part.AllPrompts, part.SizeInBytes, request.Out!);
        StageBars.Run(terminal, progress =>
        {
            part.Measure(request.Out!, ToStages(progress), cancellationToken);
            return true;
        });
        ShardOutput.End(terminal, shard, $"tiller merge {request.Out} --out FILE");
        return ExitCode.Ok;
    }

    // --out with {q}, {r} and {qf} replaced; a controller alone may have braces in its name.
    private static string FileOf(FitRequest request, LqrWeights weights) => request.Weights.Count == 1
        ? request.Out!
        : request.Out!.Replace("{q}", Text(weights.Q), StringComparison.Ordinal).Replace("{r}", Text(weights.R), StringComparison.Ordinal)
            .Replace("{qf}", Text(weights.Qf), StringComparison.Ordinal);

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    /// <summary>Reads the prompts, and makes them chats if that is requested.</summary>
    /// <exception cref="PromptFileException">A file cannot be read, or has chats that do not fit the other prompts or --system.</exception>
    public static FitPrompts Prompts(FitRequest request, CancellationToken cancellationToken)
    {
        List<(string File, IReadOnlyList<Prompt> Prompts)> files =
            [.. new[] { request.Positive, request.Negative, request.Calibration, request.Alternative, request.Certify }.OfType<string>()
                .Select((file, i) => (file, PromptFile.Read(file, SelectionOf(request.Selections, i), cancellationToken)))];
        if (request.Pairs is { } pairs)
        {
            var both = ContrastSet.ReadPairs(pairs, cancellationToken);
            files.InsertRange(0, [(pairs, both.Positive), (pairs, both.Negative)]);
        }

        bool anyText = files.Any(f => f.Prompts.Any(p => p is TextPrompt));
        foreach (var (file, prompts) in files)
        {
            for (int i = 0; i < prompts.Count; i++)
            {
                if (prompts[i] is ChatPrompt && !request.Chat && anyText)
                {
                    throw new PromptFileException(
                        file, 0, $"prompt {i + 1} is a chat, but other prompts are texts: add --chat to make those users' messages.");
                }

                if (prompts[i] is ChatPrompt { System: not null } && request.System is not null)
                {
                    throw new PromptFileException(file, 0, $"prompt {i + 1} is a chat with a system message of its own: leave --system out.");
                }
            }
        }

        IReadOnlyList<Prompt>[] lists = [.. files.Select(f => request.Chat ? [.. f.Prompts.Select(p => p.AsChat(request.System))] : f.Prompts)];
        Prompt? nominal = request.Nominal is { } text ? new TextPrompt(text) : null;
        return new FitPrompts(
            new ContrastSet(lists[0], lists[1]),
            request.Calibration is null ? null : lists[2],
            request.Alternative is null ? null : lists[request.Certify is null ? ^1 : ^2],
            request.Certify is null ? null : lists[^1],
            request.Chat ? nominal?.AsChat(request.System) : nominal);
    }

    private static PromptSelection SelectionOf(IReadOnlyList<PromptSelection> selections, int file) =>
        selections.Count == 0 ? new PromptSelection() : selections[Math.Min(file, selections.Count - 1)];

    /// <summary>Fits, with a progress bar for each stage.</summary>
    public static FitResult Fit(Terminal terminal, LanguageModel model, ContrastSet contrast, FitOptions options, CancellationToken cancellationToken)
        => StageBars.Run(terminal, progress => ControllerFit.Run(model, contrast, options, ToStages(progress), cancellationToken));

    private static Relay<FitProgress> ToStages(IProgress<StageProgress> progress) =>
        new(p => progress.Report(new StageProgress(FitOutput.Name(p.Stage), p.Done, p.Total)));

    /// <summary>The options of the request, checked against the model's shape.</summary>
    /// <exception cref="UsageException">The model does not have a requested block, or the order is larger than its width.</exception>
    public static FitOptions Options(FitRequest request, ModelConfig c, FitPrompts prompts)
    {
        if (request.Layers is { } range && range.Last >= c.L)
        {
            throw new UsageException($"--layers must be within 0-{c.L - 1}, the blocks of this model, got {range}.");
        }

        if (request.Order > c.D)
        {
            throw new UsageException($"--order must be at most {c.D}, the width of this model, got {request.Order}.");
        }

        return new FitOptions
        {
            Method = request.Method,
            Direction = request.Direction,
            Alternative = prompts.Alternative,
            Nominal = prompts.Nominal,
            HeldOut = prompts.HeldOut,
            Weights = request.Weights[0],
            Cost = request.Cost,
            Order = request.Order,
            Setpoint = request.Setpoint,
            Layers = request.Layers,
            Calibration = prompts.Calibration,
            Jacobians = request.Jacobians,
            Shards = request.Shards,
        };
    }
}

using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>The contents of a checkpoint.</summary>
/// <param name="Checkpoint">Everything except the values of the weights. The caller owns it.</param>
/// <param name="Chat">Name of the chat format; null if there is none.</param>
/// <param name="NoChat">Why there is no chat format; null if there is one.</param>
/// <param name="NonFinite">Number of NaN and infinite values in each tensor; null if the weights were not read.</param>
internal sealed record CheckpointInspection(LoadableCheckpoint Checkpoint, string? Chat, string? NoChat, IReadOnlyList<long>? NonFinite);

/// <summary><c>tiller inspect</c>.</summary>
internal static class InspectRun
{
    public static int Run(Terminal terminal, InspectRequest request, CancellationToken cancellationToken)
    {
        if (Directory.Exists(request.Path) || (!File.Exists(request.Path) && HubName.TryParse(request.Path) is not null))
        {
            if (request.Page is not null)
            {
                throw new UsageException("--page plots the certificate of a controller: name a controller file, or leave it out.");
            }

            using var checkpoint = LoadableCheckpoint.Open(request.Path, strict: false, cancellationToken);
            var inspection = Inspect(checkpoint);
            if (request.Check)
            {
                var folder = checkpoint.Folder;
                inspection = inspection with { NonFinite = [.. folder.Tensors.Select(t => NonFiniteValues.Count(folder, t, cancellationToken))] };
            }

            if (request.Json)
            {
                CheckpointOutput.WriteJson(terminal, inspection);
            }
            else
            {
                CheckpointOutput.WriteText(terminal, inspection);
            }

            return inspection.NonFinite?.Sum() > 0 ? ExitCode.BadInput : ExitCode.Ok;
        }

        if (request.Check)
        {
            throw new UsageException("--check reads the weights of a checkpoint: name the folder of a checkpoint.");
        }

        if (!File.Exists(request.Path))
        {
            throw new FileNotFoundException($"{request.Path}: no such folder or file. Expected the folder of a checkpoint, or a controller file.");
        }

        var destination = request.Page is null ? null : Destination.Of(terminal, "--page", request.Page, isText: true, request.Json, request.Path);
        terminal = destination?.Rest ?? terminal;
        var controller = Controller.Load(request.Path);
        if (destination is not null && controller.Source.Certificate is null)
        {
            throw new UsageException($"{request.Path} has no certificate to plot: fit it with --certify FILE, or leave --page out.");
        }

        destination?.Write(stream => CertificatePage.Write(stream, [(Path.GetFileName(request.Path), controller)]));
        if (request.Json)
        {
            ControllerOutput.WriteJson(terminal, controller);
        }
        else
        {
            ControllerOutput.WriteText(terminal, controller);
        }

        return ExitCode.Ok;
    }

    private static CheckpointInspection Inspect(LoadableCheckpoint checkpoint)
    {
        try
        {
            return new CheckpointInspection(checkpoint, checkpoint.Chat.Value.Name, null, null);
        }
        catch (ChatException e)
        {
            return new CheckpointInspection(checkpoint, null, OptionNames.Of(e.Message), null);
        }
    }
}

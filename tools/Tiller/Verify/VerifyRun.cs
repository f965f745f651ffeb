using Tiller.Checkpoint;

namespace Tiller.Tool;

/// <summary><c>tiller verify</c>: prints a row for each folder and kind as soon as it is known.</summary>
internal static class VerifyRun
{
    public static int Run(Terminal terminal, VerifyRequest request, CancellationToken cancellationToken)
    {
        var destination = request.Values is null ? null : Destination.Of(terminal, "--values", request.Values, isText: false, request.Json);
        terminal = destination?.Rest ?? terminal;
        var all = new List<VerificationRow>();
        List<TensorData>? values = destination is null ? null : [];
        foreach (string folder in request.Folders)
        {
            int before = all.Count;
            foreach (var row in Verification.Run(folder, request.Device.ToLoadOptions(), values, cancellationToken, templates: request.Templates))
            {
                if (!request.Json)
                {
                    VerifyOutput.WriteRow(terminal, row, first: all.Count == before);
                }

                all.Add(row);
            }

            if (all.Count == before)
            {
                throw new GoldenException(folder, "has golden values, but the checkpoint lacks the files that they belong to: nothing was verified.");
            }
        }

        var metadata = new Dictionary<string, string>();
        destination?.Write(path => SafetensorsWriter.Write(path, metadata, values!), stream => SafetensorsWriter.Write(stream, metadata, values!));

        if (request.Json)
        {
            VerifyOutput.WriteJson(terminal, all);
        }
        else
        {
            VerifyOutput.WriteTotal(terminal, all);
        }

        return all.TrueForAll(row => row.Passed) ? ExitCode.Ok : ExitCode.VerificationFailed;
    }
}

using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;
using Tiller.Chat;
using Tiller.Serving;

namespace Tiller.Tool;

/// <summary><c>tiller serve</c>: runs until a signal arrives, and then until the running texts have ended.</summary>
internal static class ServeRun
{
    public static async Task<int> Run(Terminal terminal, ServeRequest request, CancellationToken cancellationToken)
    {
        string[] keys = request.ApiKeyFile is null ? [] : ReadKeys(request.ApiKeyFile);
        using var certificate = request.Certificate is null ? null : ReadCertificate(request.Certificate, request.Key!);
        using var model = Runs.Load(terminal, request.Model, request.Device, strict: false, cancellationToken);
        using var service = new TillerService(model, new ServiceOptions
        {
            ModelName = request.ModelName,
            ControllersDirectory = request.Controllers,
            ChatTemplate = request.ChatTemplate is "chatml" ? ChatFormat.ChatMl : request.ChatTemplate is { } file ? File.ReadAllText(file) : null,
            Scheduler = request.Limits,
            ApiKeys = keys,
            LogsTexts = request.LogTexts,
        });
        foreach (string warning in service.Warnings)
        {
            terminal.Warn(warning);
        }

        var options = new ServerOptions
        {
            Address = request.Host,
            Port = request.Port,
            Certificate = certificate,
            IsInsecure = request.Insecure,
            CorsOrigins = request.Cors,
        };
        await using var server = await TillerServer.StartAsync(service, options, builder =>
        {
            builder.Logging.AddProvider(new TerminalLog(terminal));
            builder.Logging.AddFilter(null, LogLevel.Warning).AddFilter("Tiller", LogLevel.Information);
        }, cancellationToken);
        if (request.Json)
        {
            Json.WriteLine(terminal.Output, new ServedJson(server.Address.ToString(), service.ModelName), ServeJsonContext.Default.ServedJson);
        }
        else
        {
            terminal.Output.WriteLine($"{service.ModelName} at {server.Address}");
        }

        terminal.Output.Flush();
        await Task.Delay(Timeout.InfiniteTimeSpan, cancellationToken).ContinueWith(_ => { }, CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        terminal.Error.WriteLine($"tiller: stopping; running texts have {request.Drain.TotalSeconds:0.#} s to end.");
        await server.DrainAsync(request.Drain);
        return ExitCode.Ok;
    }

    private static string[] ReadKeys(string path)
    {
        string[] keys = [.. File.ReadLines(path).Select(line => line.Trim()).Where(line => line.Length > 0)];
        return keys.Length > 0 ? keys : throw new UsageException($"--api-key-file {path} has no key: write one per line.");
    }

    private static X509Certificate2 ReadCertificate(string path, string key)
    {
        try
        {
            return X509Certificate2.CreateFromPemFile(path, key);
        }
        catch (CryptographicException e)
        {
            throw new UsageException($"--cert {path} and --key {key} are not a certificate and its private key in PEM: {e.Message}");
        }
    }
}

/// <summary>The JSON that <c>serve</c> prints when it listens.</summary>
internal sealed record ServedJson(string Url, string Model);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ServedJson))]
internal sealed partial class ServeJsonContext : JsonSerializerContext;

using System.CommandLine;
using System.Net;
using Tiller.Scheduling;

namespace Tiller.Tool;

/// <summary>What <c>tiller serve</c> was asked for.</summary>
internal sealed record ServeRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>Folder of controllers; null for none.</summary>
    public string? Controllers { get; init; }

    public string? ModelName { get; init; }

    public required IPAddress Host { get; init; }

    public int Port { get; init; }

    public string? ApiKeyFile { get; init; }

    public bool Insecure { get; init; }

    public string? Certificate { get; init; }

    public string? Key { get; init; }

    /// <summary>File of a chat template, or chatml; null for the checkpoint's own.</summary>
    public string? ChatTemplate { get; init; }

    public required SchedulerOptions Limits { get; init; }

    /// <summary>Web pages elsewhere that may call.</summary>
    public IReadOnlyList<string> Cors { get; init; } = [];

    public TimeSpan Drain { get; init; }

    public bool LogTexts { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller serve</c>: a model over HTTP.</summary>
internal sealed class ServeCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new();

    private readonly Option<string?> _controllers = new("--controllers")
    {
        Description = "Folder of controllers that requests may name, each by its file name without .tiller; uploads and fits are kept there.",
        HelpName = "DIR",
    };

    private readonly Option<string?> _modelName = new("--model-name")
    {
        Description = "Id of the model in requests and answers. [default: the folder's last name]",
        HelpName = "NAME",
    };

    private readonly Option<IPAddress> _host = new("--host")
    {
        Description = "Address to listen at; one that other machines can reach needs --api-key-file or --insecure.",
        HelpName = "ADDRESS",
        DefaultValueFactory = _ => IPAddress.Loopback,
        CustomParser = result =>
        {
            string text = result.Tokens[^1].Value;
            if (IPAddress.TryParse(text, out var address))
            {
                return address;
            }

            result.AddError($"--host must be an address such as 127.0.0.1, 0.0.0.0 or ::1, got '{text}'.");
            return null!;
        },
    };

    private readonly Option<int> _port = OptionKinds.Number(
        "--port", "Port to listen at; 0 takes a free one and prints it.", 8080, p => p is >= 0 and <= 65535, "a whole number, 0 to 65535");

    private readonly Option<string?> _apiKeyFile = new("--api-key-file")
    {
        Description = "File of API keys, one a line; every request but health checks then needs one, as 'Authorization: Bearer KEY'.",
        HelpName = "FILE",
    };

    private readonly Option<bool> _insecure = new("--insecure") { Description = "Listen at any --host without API keys." };

    private readonly Option<string?> _certificate = new("--cert")
    {
        Description = "Certificate, PEM; with --key the server speaks HTTPS, HTTP/2 too.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _key = new("--key") { Description = "Private key of --cert, PEM.", HelpName = "FILE" };

    private readonly Option<string?> _chatTemplate = new("--chat-template")
    {
        Description = "Chat template in place of the checkpoint's, for one that has none: a file in Jinja, or chatml.",
        HelpName = "FILE|chatml",
    };

    private readonly Option<int> _sequences = Limit("--max-sequences", "Most texts under way at once.", new SchedulerOptions().MaxSequences);
    private readonly Option<int> _queued = Limit(
        "--max-queued", "Most texts that wait; more are refused with 429.", new SchedulerOptions().MaxQueued);
    private readonly Option<int> _kvMemory = Limit("--kv-memory", "MiB that keys and values of all texts may take.", 1024);

    private readonly Option<int?> _promptTokens = LimitOrNone("--max-prompt-tokens", "Most tokens of a prompt. [default: the context]");
    private readonly Option<int?> _newTokens = LimitOrNone("--max-new-tokens", "Most new tokens that a request may ask for. [default: the context]");

    private readonly Option<string[]> _cors = new("--cors")
    {
        Description = "Origin of web pages elsewhere that may call, such as https://example.org; repeated for more. [default: none]",
        HelpName = "ORIGIN",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<TimeSpan?> _drain = OptionKinds.Time(
        "--drain", "Time that texts under way have after SIGTERM or Ctrl-C before they are ended. [default: 30s]", most: "24h");

    private readonly Option<bool> _logTexts = new("--log-texts")
    {
        Description = "Show prompts, and answers that are not streamed, in the request log.",
    };

    public ServeCommand(Func<ServeRequest, CancellationToken, Task<int>> run)
        : base("serve", "Serve the model over HTTP, as OpenAI's API does, every request with its own controllers.")
    {
        Option[] options =
        [
            _model, _controllers, _modelName, _host, _port, _apiKeyFile, _insecure, _certificate, _key, _chatTemplate, _sequences, _queued, _kvMemory,
            _promptTokens, _newTokens, _cors, _drain, _logTexts,
        ];
        foreach (var option in options)
        {
            Add(option);
        }

        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # the demo model, for this machine alone
          tiller serve --model models/demo --controllers controllers
          curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \
            -d '{"model": "demo", "prompt": "Once upon a time", "steering": {"controllers": [{"name": "sea", "lambda": 1.5}]}}'
          # for other machines, with a key and encrypted
          tiller serve --model DIR --host 0.0.0.0 --api-key-file keys.txt --cert cert.pem --key key.pem
        """;

    private ServeRequest Read(ParseResult parse)
    {
        var host = parse.GetValue(_host)!;
        var (keys, insecure) = (parse.GetValue(_apiKeyFile), parse.GetValue(_insecure));
        if (!IPAddress.IsLoopback(host) && keys is null && !insecure)
        {
            throw new UsageException($"--host {host} can be reached from other machines, and nobody would need a key: give --api-key-file, or "
                + "--insecure if that is meant.");
        }

        var (certificate, key) = (parse.GetValue(_certificate), parse.GetValue(_key));
        if (certificate is null != key is null)
        {
            throw new UsageException("--cert and --key go together: give both, or neither.");
        }

        return new ServeRequest
        {
            Model = parse.GetRequiredValue(_model),
            Device = _device.Read(parse),
            Controllers = parse.GetValue(_controllers),
            ModelName = parse.GetValue(_modelName) is { Length: 0 } ? throw new UsageException("--model-name must have a character.")
                : parse.GetValue(_modelName),
            Host = host,
            Port = parse.GetValue(_port),
            ApiKeyFile = keys,
            Insecure = insecure,
            Certificate = certificate,
            Key = key,
            ChatTemplate = parse.GetValue(_chatTemplate),
            Limits = new SchedulerOptions
            {
                MaxSequences = parse.GetValue(_sequences),
                MaxQueued = parse.GetValue(_queued),
                MaxKvBytes = (long)parse.GetValue(_kvMemory) << 20,
                MaxPromptTokens = parse.GetValue(_promptTokens) ?? int.MaxValue,
                MaxNewTokens = parse.GetValue(_newTokens) ?? int.MaxValue,
            },
            Cors = parse.GetValue(_cors) ?? [],
            Drain = parse.GetValue(_drain) ?? TimeSpan.FromSeconds(30),
            LogTexts = parse.GetValue(_logTexts),
            Json = parse.GetValue(Json),
        };
    }

    private static Option<int> Limit(string name, string description, int standard) =>
        OptionKinds.Number(name, description, standard, n => n > 0, "a whole number above 0");

    private static Option<int?> LimitOrNone(string name, string description) =>
        OptionKinds.NumberOrNone<int>(name, description, n => n > 0, "a whole number above 0");
}

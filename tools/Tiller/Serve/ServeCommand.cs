using System.CommandLine;
using System.Net;
using Tiller.Scheduling;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller serve</c>.</summary>
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

    /// <summary>File of a chat template, or chatml; null for the checkpoint's template.</summary>
    public string? ChatTemplate { get; init; }

    public required SchedulerOptions Limits { get; init; }

    /// <summary>Origins of other web pages that may call the server.</summary>
    public IReadOnlyList<string> Cors { get; init; } = [];

    public TimeSpan Drain { get; init; }

    public bool LogTexts { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller serve</c>: serves a model over HTTP.</summary>
internal sealed class ServeCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new(decodes: true);

    private readonly Option<string?> _controllers = new("--controllers")
    {
        Description = "Folder of the controllers that requests may name, by file name without .tiller. New controllers are stored there too.",
        HelpName = "DIR",
    };

    private readonly Option<string?> _modelName = new("--model-name")
    {
        Description = "Id of the model in requests and answers. [default: the last part of the folder's path]",
        HelpName = "NAME",
    };

    private readonly Option<IPAddress> _host = new("--host")
    {
        Description = "Address to listen at. If other machines can reach it, --api-key-file or --insecure is required.",
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
        "--port", "Port to listen at; 0 chooses a free port and prints it.", 8080, p => p is >= 0 and <= 65535, "a whole number, 0 to 65535");

    private readonly Option<string?> _apiKeyFile = new("--api-key-file")
    {
        Description = "File of API keys, one per line. Every request except health checks then needs one of them, as 'Authorization: Bearer KEY'.",
        HelpName = "FILE",
    };

    private readonly Option<bool> _insecure = new("--insecure") { Description = "Listen at any --host without API keys." };

    private readonly Option<string?> _certificate = new("--cert")
    {
        Description = "Certificate in PEM. With --cert and --key the server uses HTTPS, including HTTP/2.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _key = new("--key") { Description = "Private key of --cert in PEM.", HelpName = "FILE" };

    private readonly Option<string?> _chatTemplate = new("--chat-template")
    {
        Description = "Chat template to use instead of the checkpoint's, or if it has none: a Jinja file, or chatml.",
        HelpName = "FILE|chatml",
    };

    private readonly Option<int> _sequences = Limit(
        "--max-sequences", "Maximum number of texts that are decoded together.", new SchedulerOptions().MaxSequences);
    private readonly Option<int> _queued = Limit(
        "--max-queued", "Maximum number of texts that wait; others are refused with status 429.", new SchedulerOptions().MaxQueued);
    private readonly Option<int> _kvMemory = Limit("--kv-memory", "Maximum memory for keys and values of all texts, in MiB.", 1024);

    private readonly Option<int?> _promptTokens = LimitOrNone("--max-prompt-tokens", "Maximum number of tokens in a prompt. [default: the context]");
    private readonly Option<int?> _newTokens = LimitOrNone("--max-new-tokens", "Maximum number of new tokens per text. [default: the context]");

    private readonly Option<string[]> _cors = new("--cors")
    {
        Description = "Origin of other web pages that may call the server, such as https://example.org. Repeatable. [default: none]",
        HelpName = "ORIGIN",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<TimeSpan?> _drain = OptionKinds.Time(
        "--drain", "Time that running texts have to end after SIGTERM or Ctrl-C. [default: 30s]", most: "24h");

    private readonly Option<bool> _logTexts = new("--log-texts")
    {
        Description = "Write prompts, and answers that are not streamed, to the log.",
    };

    public ServeCommand(Func<ServeRequest, CancellationToken, Task<int>> run)
        : base("serve", "Serve the model over HTTP with OpenAI's API. Every request has its own controllers.")
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
          # the demo model, only for this machine
          tiller serve --model models/demo --controllers controllers
          curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \
            -d '{"model": "demo", "prompt": "Once upon a time", "steering": {"controllers": [{"name": "sea", "lambda": 1.5}]}}'
          # for other machines, with an API key and encryption
          tiller serve --model DIR --host 0.0.0.0 --api-key-file keys.txt --cert cert.pem --key key.pem
        """;

    private ServeRequest Read(ParseResult parse)
    {
        var host = parse.GetValue(_host)!;
        var (keys, insecure) = (parse.GetValue(_apiKeyFile), parse.GetValue(_insecure));
        if (!IPAddress.IsLoopback(host) && keys is null && !insecure)
        {
            throw new UsageException($"Other machines can reach --host {host}, and no API key is required: add --api-key-file, or "
                + "--insecure if this is intended.");
        }

        var (certificate, key) = (parse.GetValue(_certificate), parse.GetValue(_key));
        if (certificate is null != key is null)
        {
            throw new UsageException("--cert needs --key, and --key needs --cert: give both, or neither.");
        }

        return new ServeRequest
        {
            Model = parse.GetRequiredValue(_model),
            Device = _device.Read(parse),
            Controllers = parse.GetValue(_controllers),
            ModelName = parse.GetValue(_modelName) is { Length: 0 } ? throw new UsageException("--model-name must have at least one character.")
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

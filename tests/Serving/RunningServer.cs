using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using Tiller.Model;
using Tiller.Scheduling;
using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>A server with the demo model at a free port of this machine, and a client for it.</summary>
internal sealed class RunningServer : IAsyncDisposable
{
    private readonly TillerServer _server;

    private RunningServer(TillerServer server, TillerService service)
    {
        (_server, Service) = (server, service);
        Client = new HttpClient { BaseAddress = server.Address, Timeout = Patience.Limit };
    }

    /// <summary>The model, which all tests can share because it is immutable.</summary>
    public static LanguageModel Model { get; } =
        LanguageModel.Load(Repository.Path("models", "demo"), new LoadOptions { Device = Device.Cpu, Threads = 1 });

    public TillerService Service { get; }

    public HttpClient Client { get; }

    public Uri Address => _server.Address;

    public static async Task<RunningServer> Start(
        ServiceOptions? options = null, ServerOptions? server = null, LanguageModel? model = null)
    {
        options ??= new ServiceOptions { Scheduler = new SchedulerOptions { MaxKvBytes = 256 << 20 } };
        var service = new TillerService(model ?? Model, options);
        try
        {
            return new RunningServer(await TillerServer.StartAsync(service, (server ?? new ServerOptions()) with { Port = 0 }).InTime(), service);
        }
        catch
        {
            service.Dispose();
            throw;
        }
    }

    /// <summary>Sends JSON in a POST request and returns the response.</summary>
    public Task<Answer> Post(string path, string json) => Send(HttpMethod.Post, path, json);

    public Task<Answer> Get(string path) => Send(HttpMethod.Get, path, null);

    public async Task<Answer> Send(HttpMethod method, string path, string? json)
    {
        using var request = new HttpRequestMessage(method, path);
        if (json is not null)
        {
            request.Content = new StringContent(json, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        }

        using var response = await Client.SendAsync(request);
        return new Answer((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers);
    }

    public Task Drain(TimeSpan patience) => _server.DrainAsync(patience);

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await _server.DisposeAsync();
        Service.Dispose();
    }
}

/// <summary>A response of the server.</summary>
internal sealed record Answer(int Status, string Body, HttpResponseHeaders Headers)
{
    public JsonElement Json
    {
        get
        {
            using var document = JsonDocument.Parse(Body);
            return document.RootElement.Clone();
        }
    }

    /// <summary>The object that describes an error, with its type, param and code.</summary>
    public JsonElement Error => Json.GetProperty("error");

    public string? Param => Error.GetProperty("param").GetString();

    public string? Code => Error.GetProperty("code").GetString();

    public string Message => Error.GetProperty("message").GetString()!;
}

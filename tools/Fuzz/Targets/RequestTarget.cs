using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Microsoft.AspNetCore.Http;
using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Serving;

namespace Tiller.Fuzz.Targets;

/// <summary>A body of a request to the service, as each of the routes that take JSON reads it.</summary>
internal sealed class RequestTarget : FuzzTarget
{
    private readonly Lazy<TillerService> _service;

    public RequestTarget(Corpus corpus) => _service = new Lazy<TillerService>(() => Serve(corpus.Checkpoints[^1]));

    public override string Name => "request";

    /// <summary>Made of the model's shape; the child asks for them before it measures what inputs take.</summary>
    public override IReadOnlyList<byte[]> Seeds => [.. new[]
    {
        """{"model":"m","prompt":"a b","max_tokens":3,"temperature":0.5,"top_p":0.9,"top_k":4,"min_p":0.1,"seed":7,"stop":["x","y"],"n":2}""",
        """{"model":"m","prompt":[[1,2],[3]],"logit_bias":{"5":-100},"logprobs":3,"stream":true,"stream_options":{"include_usage":true}}""",
        """
        {"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b"}]}],"logprobs":true,
         "top_logprobs":2,"max_completion_tokens":5}
        """,
        $$$"""
        {"model":"m","prompt":"a","steering":{"vectors":[{"data":{"0":{{{Vector}}}},"scale":2,"layers":[0]},{"source":"sea"}],
         "conflict":"priority","tokens":"all"}}
        """,
        """
        {"model":"m","prompt":"a","steering":{"controllers":[{"name":"sea","lambda":1.5}],"layers":"0-1","max_effort":3,"telemetry":"layers"}}
        """,
        """{"name":"x","positive":["a"],"negative":["b"],"q":0.1,"r":1,"qf":1,"cost":"state","order":3,"layers":"0-1"}""",
        "[1,2,3]",
    }.Select(Encoding.UTF8.GetBytes)];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "{\"model\":\"m\",", "\"prompt\":", "\"messages\":[", "\"steering\":{", "\"controllers\":[", "\"lambda\":", "\"logit_bias\":{", "\"stop\":[",
        "\"n\":", "\"seed\":", "1e999", "\\ud800", "null", "[[", "]]", "{}", "}", ",",
    }.Select(Encoding.UTF8.GetBytes), [0xFF], [0xC3, 0x28]];

    public override Gen<byte[]> Structure { get; } = HostileJson.Object(
        ("model", HostileJson.One("\"m\"")),
        ("prompt", HostileJson.Mostly(HostileJson.Text)),
        ("messages", HostileJson.List(HostileJson.Object(
            ("role", HostileJson.One("\"system\"", "\"user\"", "\"assistant\"", "\"developer\"")), ("content", HostileJson.Text)), 3)),
        ("temperature", HostileJson.Number), ("top_p", HostileJson.Number), ("n", HostileJson.Whole(1, 16)), ("stop", HostileJson.Any),
        ("logit_bias", HostileJson.Any), ("seed", HostileJson.Number), ("max_tokens", HostileJson.Whole(1, 9)),
        ("steering", HostileJson.Object(
            ("controllers", HostileJson.List(HostileJson.Object(("name", HostileJson.One("\"sea\"")), ("lambda", HostileJson.Number)), 2)),
            ("vectors", HostileJson.List(HostileJson.Object(
                ("source", HostileJson.One("\"sea\"")), ("scale", HostileJson.Number), ("layers", HostileJson.One("\"0-1\"", "[0]"))), 2)),
            ("conflict", HostileJson.One("\"error\"", "\"priority\"", "\"sequential\"")), ("compare", HostileJson.One("true", "false")),
            ("layers", HostileJson.One("\"0-1\"")), ("max_effort", HostileJson.Number),
            ("telemetry", HostileJson.One("\"tokens\"", "\"layers\""))))).Bytes();

    public override void Read(byte[] input)
    {
        var service = _service.Value;
        Func<System.Text.Json.JsonElement, object>[] routes =
        [
            body => CompletionRequest.Read(body, isChat: false, service, default),
            body => CompletionRequest.Read(body, isChat: true, service, default),
            body => FitRequest.Read(body, service),
            body => CompletionRequest.Ids(body, "tokens", service),
        ];
        TillerException? refused = null;
        int taken = 0;
        foreach (var route in routes)
        {
            var context = new DefaultHttpContext();
            (context.Request.ContentType, context.Request.Body) = ("application/json", new MemoryStream(input));
            try
            {
                using var body = RequestBody.ReadJsonAsync(context, service.Options).GetAwaiter().GetResult();
                if (route(body.RootElement) is CompletionRequest request)
                {
                    Promise(request.Prompts.All(ids => ids.All(id => id >= 0 && id < service.Model.Config.V)), "ids are tokens");
                    Promise(request.Prompts.Count * request.N is > 0 and <= 64, "texts are bounded");
                    _ = request.Steering is { } plan ? new AnswerSteering(plan).First : null;
                }

                taken++;
            }
            catch (TillerException e)
            {
                Promise(ApiException.Of(e) is { Status: >= 400 and < 500 }, "what is refused is the request's fault");
                refused = e;
            }
        }

        if (taken == 0)
        {
            throw refused!;
        }
    }

    private string Vector => $"[{string.Join(',', Enumerable.Repeat("0.5", _service.Value.Model.Config.D))}]";

    // The library keeps what it has read: no request that is only read comes to its folder.
    private static TillerService Serve(string checkpoint)
    {
        var model = LanguageModel.Load(checkpoint, new LoadOptions { Device = Device.Cpu, Threads = 1 });
        var folder = Directory.CreateTempSubdirectory("tiller-fuzz-");
        try
        {
            var options = new FitOptions { Cost = FitCost.Feature };
            var fit = ControllerFit.Run(model, new ContrastSet(["One cat"], ["Two dogs!"]), options);
            fit.Controller.Save(Path.Combine(folder.FullName, "sea.tiller"));
            return new TillerService(
                model, new ServiceOptions { ModelName = "m", ChatTemplate = ChatFormat.ChatMl, ControllersDirectory = folder.FullName });
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}

using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>/openapi.json and docs/serving.md tell of the routes and fields that there are.</summary>
public sealed class OpenApiTests
{
    private static readonly JsonElement s_document = JsonDocument.Parse(OpenApiRoute.Document).RootElement;

    private static readonly string s_page = File.ReadAllText(Repository.Path("docs", "serving.md"));

    private RunningServer _server = null!;

    private static readonly (string Schema, string Path)[] s_requests =
    [
        ("CompletionRequest", "/v1/completions"), ("ChatCompletionRequest", "/v1/chat/completions"), ("FitRequest", "/v1/controllers/fit"),
        ("TokenizeRequest", "/tokenize"), ("DetokenizeRequest", "/detokenize"),
    ];

    private static IEnumerable<TestCaseData> Fields() => s_requests.SelectMany(
        r => Properties(r.Schema).Select(field => new TestCaseData(r.Path, $"{{\"{field}\":null}}")));

    private static IEnumerable<TestCaseData> SteeringFields() => Properties("Steering").Select(field => new TestCaseData(field));

    [OneTimeSetUp]
    public async Task Start() => _server = await RunningServer.Start();

    [OneTimeTearDown]
    public async Task Stop() => await _server.DisposeAsync();

    [Test]
    public void Every_route_is_described_and_no_other()
    {
        using var service = new TillerService(RunningServer.Model);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Services.AddTiller(service);
        using var app = builder.Build();
        app.MapTiller();
        var mapped = ((IEndpointRouteBuilder)app).DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
            .SelectMany(e => e.Metadata.GetMetadata<HttpMethodMetadata>()!.HttpMethods, (e, method) => $"{method} {e.RoutePattern.RawText}");
        var described = s_document.GetProperty("paths").EnumerateObject()
            .SelectMany(path => path.Value.EnumerateObject(), (path, method) => $"{method.Name.ToUpperInvariant()} {path.Name}");
        Assert.That(described, Is.EquivalentTo(mapped));
    }

    [TestCaseSource(nameof(Fields))]
    public async Task A_field_that_is_described_is_known(string path, string body)
    {
        var answer = await _server.Post(path, body);
        Assert.That(answer.Code, Is.EqualTo("missing_field").Or.EqualTo("invalid_value"), answer.Body);
    }

    [TestCaseSource(nameof(SteeringFields))]
    public void A_field_of_steering_stands_in_the_page(string field) => Assert.That(s_page, Does.Contain($"`{field}`"));

    [Test]
    public void Every_field_of_a_request_stands_in_the_page() =>
        Assert.That(s_requests.SelectMany(r => Properties(r.Schema)).Distinct(StringComparer.Ordinal).Where(
            f => !s_page.Contains($"`{f}`", StringComparison.Ordinal) && !s_page.Contains($"\"{f}\"", StringComparison.Ordinal)), Is.Empty);

    [Test]
    public void Every_reference_leads_somewhere()
    {
        var schemas = s_document.GetProperty("components").GetProperty("schemas");
        var named = System.Text.RegularExpressions.Regex.Matches(s_document.GetRawText(), "#/components/schemas/(?<name>\\w+)",
            System.Text.RegularExpressions.RegexOptions.None, TimeSpan.FromMinutes(1));
        Assert.That(named, Is.Not.Empty);
        foreach (System.Text.RegularExpressions.Match match in named)
        {
            Assert.That(schemas.TryGetProperty(match.Groups["name"].Value, out _), Is.True, match.Value);
        }
    }

    private static IEnumerable<string> Properties(string schema) =>
        s_document.GetProperty("components").GetProperty("schemas").GetProperty(schema).GetProperty("properties").EnumerateObject()
            .Select(p => p.Name);
}

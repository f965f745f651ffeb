using System.Net;
using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>What a server says of itself, and whom it lets in.</summary>
public sealed class ServerTests
{
    [Test]
    public async Task The_model_is_listed_by_its_folders_name_and_found_by_it()
    {
        await using var server = await RunningServer.Start();
        var list = await server.Get("/v1/models");
        Assert.That(list.Status, Is.EqualTo(200));
        var model = list.Json.GetProperty("data")[0];
        Assert.That(model.GetProperty("id").GetString(), Is.EqualTo("demo"));
        Assert.That(model.GetProperty("fingerprint").GetString(), Is.EqualTo(RunningServer.Model.Fingerprint));
        Assert.That((await server.Get("/v1/models/demo")).Json.GetProperty("id").GetString(), Is.EqualTo("demo"));
        var other = await server.Get("/v1/models/other");
        Assert.That((other.Status, other.Code, other.Param), Is.EqualTo((404, "model_not_found", "model")));
    }

    [Test]
    public async Task A_server_is_ready_until_it_is_drained()
    {
        await using var server = await RunningServer.Start();
        Assert.That((await server.Get("/health/live")).Status, Is.EqualTo(200));
        Assert.That((await server.Get("/health/ready")).Json.GetProperty("status").GetString(), Is.EqualTo("ready"));
        await server.Service.DrainAsync(Patience.Limit).InTime();
        Assert.That((await server.Get("/health/ready")).Status, Is.EqualTo(503));
        Assert.That((await server.Get("/health/live")).Status, Is.EqualTo(200));
    }

    [TestCase(null)]
    [TestCase("Bearer wrong")]
    [TestCase("Basic secret-1")]
    [TestCase("secret-1")]
    [TestCase("Bearer secret-10")]
    public async Task Without_one_of_its_keys_a_server_answers_nothing_but_its_health(string? authorization)
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ApiKeys = ["secret-1", "secret-2"] });
        if (authorization is not null)
        {
            server.Client.DefaultRequestHeaders.TryAddWithoutValidation("Authorization", authorization);
        }

        var refused = await server.Get("/v1/models");
        Assert.That((refused.Status, refused.Code), Is.EqualTo((401, "invalid_api_key")));
        Assert.That(refused.Headers.WwwAuthenticate.ToString(), Is.EqualTo("Bearer"));
        Assert.That((await server.Get("/health/ready")).Status, Is.EqualTo(200));
    }

    [TestCase("secret-1")]
    [TestCase("secret-2")]
    public async Task Each_of_several_keys_opens(string key)
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ApiKeys = ["secret-1", "secret-2"] });
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", key);
        Assert.That((await server.Get("/v1/models")).Status, Is.EqualTo(200));
    }

    [Test]
    public async Task An_address_that_others_reach_is_not_listened_at_without_a_key()
    {
        var everywhere = new ServerOptions { Address = IPAddress.Any };
        Assert.That(async () => await RunningServer.Start(server: everywhere), Throws.ArgumentException.With.Message.Contains("ApiKeys"));
        await using var keyed = await RunningServer.Start(new ServiceOptions { ApiKeys = ["k"] }, everywhere);
        await using var meant = await RunningServer.Start(server: everywhere with { IsInsecure = true });
        Assert.That(keyed.Address.Port, Is.Not.EqualTo(meant.Address.Port));
    }
}

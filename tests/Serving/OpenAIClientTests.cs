using System.ClientModel;
using Microsoft.Extensions.AI;
using OpenAI;
using OpenAI.Chat;
using Tiller.Serving;
using ChatFinishReason = OpenAI.Chat.ChatFinishReason;
using ChatMessage = OpenAI.Chat.ChatMessage;

namespace Tiller.Tests.Serving;

/// <summary>OpenAI's own library as a client.</summary>
public sealed class OpenAIClientTests
{
    private RunningServer _server = null!;
    private ChatClient _client = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _server = await RunningServer.Start(new ServiceOptions { ChatTemplate = Tiller.Chat.ChatFormat.ChatMl, ApiKeys = ["sk-test"] });
        var options = new OpenAIClientOptions { Endpoint = new Uri(_server.Address, "v1") };
        _client = new ChatClient("demo", new ApiKeyCredential("sk-test"), options);
    }

    [OneTimeTearDown]
    public async Task Stop() => await _server.DisposeAsync();

    [Test]
    public async Task A_chat_is_answered_with_its_usage_and_its_log_probabilities()
    {
        var options = new ChatCompletionOptions
        {
            MaxOutputTokenCount = 8,
            Temperature = 0,
            IncludeLogProbabilities = true,
            TopLogProbabilityCount = 2,
        };
        ChatCompletion answer = await _client.CompleteChatAsync([new SystemChatMessage("Be brief."), new UserChatMessage("Hello")], options);
        Assert.That(answer.Content[0].Text, Is.Not.Empty);
        Assert.That(answer.FinishReason, Is.EqualTo(ChatFinishReason.Length).Or.EqualTo(ChatFinishReason.Stop));
        Assert.That(answer.Usage.OutputTokenCount, Is.InRange(1, 8));
        Assert.That(answer.ContentTokenLogProbabilities, Has.Count.EqualTo(answer.Usage.OutputTokenCount));
        Assert.That(answer.ContentTokenLogProbabilities[0].TopLogProbabilities, Has.Count.EqualTo(2));
        Assert.That(answer.Id, Does.StartWith("chatcmpl-"));
    }

    [Test]
    public async Task A_stream_is_the_same_answer_and_ends_with_its_usage()
    {
        ChatMessage[] messages = [new UserChatMessage("Tell me a story.")];
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 12, Temperature = 0 };
        ChatCompletion whole = await _client.CompleteChatAsync(messages, options);
        string text = "";
        ChatTokenUsage? usage = null;
        ChatFinishReason? end = null;
        await foreach (var update in _client.CompleteChatStreamingAsync(messages, options))
        {
            text += string.Concat(update.ContentUpdate.Select(part => part.Text));
            usage = update.Usage ?? usage;
            end = update.FinishReason ?? end;
        }

        Assert.That(text, Is.EqualTo(whole.Content[0].Text));
        Assert.That(usage!.TotalTokenCount, Is.EqualTo(whole.Usage.TotalTokenCount));
        Assert.That(end, Is.EqualTo(whole.FinishReason));
    }

    [Test]
    public async Task It_is_a_chat_client_of_Microsoft_Extensions_AI_too()
    {
        using IChatClient client = _client.AsIChatClient();
        var options = new ChatOptions { Instructions = "Be brief.", Temperature = 1, Seed = 5, MaxOutputTokens = 10, StopSequences = ["zzz"] };
        var whole = await client.GetResponseAsync("Tell me a story.", options).InTime();
        var streamed = await client.GetStreamingResponseAsync("Tell me a story.", options).ToChatResponseAsync().InTime();
        Assert.That(whole.Text, Is.Not.Empty);
        Assert.That(streamed.Text, Is.EqualTo(whole.Text), "one seed, one text");
        Assert.That(whole.FinishReason, Is.EqualTo(Microsoft.Extensions.AI.ChatFinishReason.Length).Or.EqualTo(
            Microsoft.Extensions.AI.ChatFinishReason.Stop));
        Assert.That(whole.Usage!.OutputTokenCount, Is.InRange(1, 10));
        Assert.That(streamed.Usage!.TotalTokenCount, Is.EqualTo(whole.Usage.TotalTokenCount));
        Assert.That(client.GetService<ChatClientMetadata>()!.DefaultModelId, Is.EqualTo("demo"));
    }

    [Test]
    public void Errors_are_those_that_the_library_knows()
    {
        var options = new OpenAIClientOptions { Endpoint = new Uri(_server.Address, "v1") };
        var wrongKey = new ChatClient("demo", new ApiKeyCredential("sk-other"), options);
        Assert.That(async () => await wrongKey.CompleteChatAsync("Hello"),
            Throws.TypeOf<ClientResultException>().With.Property("Status").EqualTo(401));
        Assert.That(async () => await _client.CompleteChatAsync([new UserChatMessage("Hello")], new ChatCompletionOptions { Temperature = -1 }),
            Throws.TypeOf<ClientResultException>().With.Property("Status").EqualTo(400).And.Message.Contains("temperature"));
    }
}

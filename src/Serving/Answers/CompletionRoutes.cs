using System.Runtime.ExceptionServices;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary><c>/v1/completions</c> and <c>/v1/chat/completions</c>.</summary>
internal sealed partial class CompletionRoutes(TillerService service, ILogger log)
{
    public Task Complete(HttpContext context) => Run(context, isChat: false);

    public Task Chat(HttpContext context) => Run(context, isChat: true);

    private async Task Run(HttpContext context, bool isChat)
    {
        using var answer = await BeginAsync(context, isChat);
        var json = new AnswerJson(answer, service);
        try
        {
            if (answer.Request.Stream)
            {
                await StreamAsync(context, answer, json);
            }
            else
            {
                await ForEachAsync(answer, choice => ReadAsync(choice, context.RequestAborted));
                await Reply.JsonAsync(context, json.WriteWhole);
            }
        }
        finally
        {
            Tell(answer);
        }
    }

    private async Task<Answer> BeginAsync(HttpContext context, bool isChat)
    {
        var telemetry = RequestTelemetry.Begin(
            isChat ? RequestTelemetry.Chat : RequestTelemetry.TextCompletion, service.ModelName, service.Options.Scheduler.Clock);
        try
        {
            CompletionRequest request;
            using (var body = await RequestBody.ReadJsonAsync(context, service.Options))
            {
                request = CompletionRequest.Read(body.RootElement, isChat, service, context.RequestAborted);
            }

            var answer = Begin(request, GuardedRoute.KeyOf(context));
            telemetry.Follow([.. answer.Choices.Select(choice => choice.Text)], request.Prompts.Sum(ids => (long)ids.Length));
            return answer;
        }
        catch (Exception e)
        {
            telemetry.Fail(e);
            throw;
        }
    }

    private Answer Begin(CompletionRequest request, int key)
    {
        try
        {
            return Answer.Begin(service, request, key);
        }
        catch (RefusedException e) when (e.Reason == RefusalReason.TooManyTexts)
        {
            // The texts are n for each prompt, or a plain and a steered one.
            string field = request.N > 1 ? "n" : request.Prompts.Count > 1 ? "prompt" : "steering.compare";
            throw ApiException.Bad(field, ApiException.Of(e)!.Message, "invalid_value");
        }
    }

    // An answer is either complete or an error: the first error ends the other choices.
    private static async Task ForEachAsync(Answer answer, Func<Choice, Task> run)
    {
        Exception? first = null;
        await Task.WhenAll(answer.Choices.Select(One));
        if (first is not null)
        {
            ExceptionDispatchInfo.Throw(first);
        }

        async Task One(Choice choice)
        {
            try
            {
                await run(choice);
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref first, e, null);
                foreach (var other in answer.Choices)
                {
                    other.Text.Cancel();
                }
            }
        }
    }

    private static async Task ReadAsync(Choice choice, CancellationToken cancellationToken)
    {
        await foreach (var token in choice.Text.ReadAllAsync(cancellationToken))
        {
            choice.Take(token, isStreamed: false);
        }

        await choice.EndAsync(cancellationToken);
    }

    private async Task StreamAsync(HttpContext context, Answer answer, AnswerJson json)
    {
        await using var events = await EventStream.BeginAsync(context);
        try
        {
            await ForEachAsync(answer, choice => StreamAsync(context, events, choice, json));
            if (answer.Request.IncludesUsage)
            {
                await events.SendAsync(json.WriteUsageChunk);
            }

            await events.SendDoneAsync();
        }
        catch (SlowReaderException)
        {
            // The client does not read, so an error event would not reach it.
            LogSlow(log, answer.Id);
            context.Abort();
        }
        catch (Exception e) when (!context.RequestAborted.IsCancellationRequested)
        {
            var error = ApiException.Of(e);
            if (error is null)
            {
                LogDefect(log, e, answer.Id);
                error = ApiException.Internal();
            }

            await events.SendAsync(writer => Reply.WriteError(writer, error));
        }
    }

    private static async Task StreamAsync(HttpContext context, EventStream events, Choice choice, AnswerJson json)
    {
        // If a client does not read, writing to it blocks, but the scheduler does not wait: it drops the text.
        _ = choice.Text.Completion.ContinueWith(
            (task, state) =>
            {
                if (task.Result.End == TextEnd.SlowReader)
                {
                    ((HttpContext)state!).Abort();
                }
            },
            context, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        await events.SendAsync(writer => json.WriteOpening(writer, choice));
        await foreach (var first in choice.Text.ReadAllAsync(context.RequestAborted))
        {
            await events.EnterAsync();
            try
            {
                var token = first;
                do
                {
                    choice.Take(token, isStreamed: true);
                    if (token.Text.Length > 0 || token.StopReason is not null || json.ShowsTokens)
                    {
                        events.Write(writer => json.WriteToken(writer, choice, token));
                    }
                }
                while (choice.Text.TryRead(out token));
            }
            finally
            {
                await events.LeaveAsync();
            }
        }

        await choice.EndAsync(context.RequestAborted);
    }

    private void Tell(Answer answer)
    {
        foreach (var choice in answer.Choices)
        {
            if (choice.Result is { } result)
            {
                LogChoice(log, answer.Id, choice.Index, result.PromptTokens, result.ReusedTokens, result.NewTokens, result.End,
                    result.Queued.TotalMilliseconds, result.Prefill.TotalMilliseconds, result.Decode.TotalMilliseconds);
            }
        }

        if (service.Options.LogsTexts)
        {
            for (int i = 0; i < answer.Request.Prompts.Count; i++)
            {
                LogPrompt(log, answer.Id, i, service.Model.Tokenizer.Decode(answer.Request.Prompts[i]));
            }

            foreach (var choice in answer.Choices.Where(_ => !answer.Request.Stream))
            {
                LogText(log, answer.Id, choice.Index, choice.Content);
            }
        }
    }

    [LoggerMessage(10, LogLevel.Information,
        "{Id} {Choice}: {PromptTokens} tokens ({Reused} reused) and {NewTokens} new, {End}; "
        + "waited {Queued:F0}, prefill {Prefill:F0}, decode {Decode:F0} ms")]
    private static partial void LogChoice(
        ILogger log, string id, int choice, int promptTokens, int reused, int newTokens, TextEnd end, double queued, double prefill, double decode);

    [LoggerMessage(11, LogLevel.Information, "{Id} prompt {Prompt}: {Text}")]
    private static partial void LogPrompt(ILogger log, string id, int prompt, string text);

    [LoggerMessage(12, LogLevel.Information, "{Id} {Choice}: {Text}")]
    private static partial void LogText(ILogger log, string id, int choice, string text);

    [LoggerMessage(13, LogLevel.Warning, "{Id}: dropped, because its client did not read")]
    private static partial void LogSlow(ILogger log, string id);

    [LoggerMessage(14, LogLevel.Error, "{Id}: the server failed")]
    private static partial void LogDefect(ILogger log, Exception error, string id);
}

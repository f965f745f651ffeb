using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

using var model = LanguageModel.Load("models/demo");
var contrast = ContrastSet.Read("models/demo/contrast/topic.positive.txt", "models/demo/contrast/topic.negative.txt");
var sea = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature }).Controller;

using var batch = new SessionBatch(model);
using Session plain = new(model), steered = new(model, sea.ToLaw(lambda: 1.5));
Session[] sessions = [plain, steered];
Sampler[] samplers = [.. sessions.Select(_ => new Sampler(new SamplingOptions { Temperature = 0.7f, Seed = 3 }, model.Config.V))];
Array.ForEach(sessions, session => session.Append(model.Tokenizer.Encode("Once upon a time")));
int[] ids = new int[sessions.Length];
for (int i = 0; i < 36; i++)
{
    batch.Draw(sessions, samplers, ids);
    batch.Step(sessions, ids);
}

Array.ForEach(sessions, session => Console.WriteLine(model.Tokenizer.Decode(session.Ids, skipSpecial: true)));

using Tiller.Control;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

using var model = LanguageModel.Load("models/demo");
var contrast = ContrastSet.Read("models/demo/contrast/tone.positive.txt", "models/demo/contrast/tone.negative.txt");
var kind = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature }).Controller;

using var batch = new SessionBatch(model);
using Session plain = new(model), steered = new(model, kind.ToLaw(lambda: 2));
Session[] sessions = [plain, steered];
Sampler[] samplers = [.. sessions.Select(_ => new Sampler(new SamplingOptions { Temperature = 0.7f, Seed = 3 }, model.Config.V))];
Array.ForEach(sessions, session => session.Append(model.Tokenizer.Encode("A guest wrote. This is about the theater.")));
int[] ids = new int[sessions.Length];
for (int i = 0; i < 40; i++)
{
    batch.Draw(sessions, samplers, ids);
    batch.Step(sessions, ids);
}

Array.ForEach(sessions, session => Console.WriteLine(model.Tokenizer.Decode(session.Ids, skipSpecial: true)));

return await Tiller.Tool.ToolProcess.RunAsync(args, []);

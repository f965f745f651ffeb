Console.WriteLine("tiller");

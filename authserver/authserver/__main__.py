from authserver.command import main

main()
